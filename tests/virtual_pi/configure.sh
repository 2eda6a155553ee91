#!/bin/sh
# First process of the emulated machine that finishes the base system: unpacks what needs a preinst script,
# configures every package, settles what a virtual Pi needs, and powers off. Ends with "pinna: configured"
# on the console, or not at all.
export PATH=/run/build:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DPKG_COLORS=never

give_up() {
    echo "pinna: failed: $*"
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
# The host ran depmod already (5 s instead of a minute), and the virtual Pi boots with an initramfs of its own
# (Debian's takes 200 s to generate here).
mkdir /run/build
printf '#!/bin/sh\nexit 0\n' | tee /run/build/depmod >/run/build/update-initramfs
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /run/build/* /usr/sbin/policy-rc.d

later=/var/cache/apt/archives/later
dpkg --force-depends --force-unsafe-io --unpack "$later"/base-passwd_* "$later"/base-files_* || give_up base
dpkg --force-depends --force-unsafe-io --configure base-passwd base-files || give_up base
rm "$later"/base-passwd_* "$later"/base-files_*
dpkg --force-depends --force-unsafe-io --unpack --recursive "$later" || give_up unpacking
cp /usr/share/libc-bin/nsswitch.conf /etc/ # libnss-mdns adds to it, and may come before libc-bin brings it
echo update_initramfs=no >/etc/initramfs-tools/update-initramfs.conf
dpkg --force-unsafe-io --force-confold --configure --pending || give_up configuring
[ -z "$(dpkg --audit)" ] || give_up "$(dpkg --audit)"

echo pi >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 pi\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
echo 'LABEL=PINNA / ext4 noatime 0 0' >/etc/fstab
# Kind: what a program makes, as Docker its pairs of virtual cards, is that program's own to configure.
printf '[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=ipv4\n' >/etc/systemd/network/10-ether.network
echo 'nameserver 10.0.2.3' >/etc/resolv.conf # QEMU's own
systemctl enable systemd-networkd.service ssh.service || give_up services
# What would wake up in the middle of a test and take the emulated processor for minutes.
systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service || give_up timers

rm -rf /usr/sbin/policy-rc.d "$later" /var/lib/pinna-base
: >/etc/machine-id # each copy gets its own at its first boot,
rm -f /var/lib/dbus/machine-id # and not this one, which systemd would take over
# An orderly remount is refused: this shell still runs from the C library that its own upgrade deleted.
sync
echo u >/proc/sysrq-trigger
sleep 3
echo 'pinna: configured'
echo o >/proc/sysrq-trigger
sleep 60
