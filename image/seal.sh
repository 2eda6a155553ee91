#!/bin/sh
# Runs in the emulated machine after the playbook: removes what only the build needed and what no two devices may
# share, then writes the system to the third disk, as a tar. What it promises, tests/image asserts.
set -eu
# What provision.sh laid over files of Raspberry Pi OS: as another file system's, tar would leave them out.
for file in /etc/resolv.conf /etc/initramfs-tools/update-initramfs.conf; do
    ! grep -q " $file " /proc/mounts || umount "$file"
done
rm -f /usr/sbin/policy-rc.d /etc/ssh/ssh_host_* /var/lib/dbus/machine-id /var/lib/systemd/random-seed
echo uninitialized >/etc/machine-id # systemd takes this for a first boot until one has come through
rm -rf /var/lib/pinna-image ~/.ansible ~/.ssh ~/.bash_history ~/.cache
rm -rf /var/lib/apt/lists /var/cache/apt /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old
rm -rf /var/lib/apt/periodic /var/lib/cloud /var/tmp/* /var/backups/*
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
chown _apt:root /var/lib/apt/lists/partial /var/cache/apt/archives/partial
chmod 700 /var/lib/apt/lists/partial /var/cache/apt/archives/partial
find /var/log -type f -delete
# No account has a password; the day of its last change would be that of the build. Not by passwd: it leaves backups.
awk -F: -v OFS=: -v day="$(($1 / 86400))" '{ if ($2 !~ /^[!*]/) $2 = "!"; $3 = day; print }' /etc/shadow >/run/shadow
cat /run/shadow >/etc/shadow
cd /
# Not what is mounted: tar fails when a folder of the kernel's changes under it. image/tree.py adds those, empty.
tar --create --file=/dev/vdc --blocking-factor=2048 --numeric-owner --xattrs --xattrs-include='*' --one-file-system --format=posix \
    --exclude=./dev --exclude=./proc --exclude=./run --exclude=./sys --exclude=./tmp --exclude=./lost+found .
sync
