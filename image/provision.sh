#!/bin/sh
# First process of the emulated machine in which site.yml runs: network, ssh, no init system. What systemd would
# start is not there, so that no service leaves a trace; `systemctl enable` writes links, as in a chroot.
# The host lets itself in by ssh, runs the playbook, then seal.sh, and reads the third disk.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run # sshd trusts no key below a folder that others can write to
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /dev/shm /run/sshd /run/systemd/resolve /run/build
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
read -r words </proc/cmdline
for word in $words; do
    case $word in
        pinna.now=*) date --set="@${word#*=}" >/dev/null ;;
        pinna.key=*) echo "${word#*=}" | base64 --decode >/run/build/key ;;
    esac
done
[ -e /sys/class/net/eth0 ] || modprobe virtio_net # an initramfs that brings it has loaded it
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
echo 'nameserver 10.0.2.3' >/run/systemd/resolve/stub-resolv.conf # QEMU's own; /etc/resolv.conf points there
if [ -e /etc/rpi-issue ]; then # Raspberry Pi OS keeps its own: ours lie over them until seal.sh takes them off
    mount --bind /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
    echo update_initramfs=no >/run/build/update-initramfs.conf # it would be made for the emulated machine's disk
    mount --bind /run/build/update-initramfs.conf /etc/initramfs-tools/update-initramfs.conf
else
    ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
fi
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
ssh-keygen -A >/dev/null
echo 'pinna: ready'
# In /run, out of the way of what is configured: sshd -T in the playbook tells of the system's own configuration.
/usr/sbin/sshd -D -e -o PidFile=/run/sshd.pid -o AuthorizedKeysFile=/run/build/key -o PermitRootLogin=yes -o UsePAM=no \
    -o 'SetEnv=SYSTEMD_OFFLINE=1 LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive'
echo 'pinna: ssh ended'
sync
echo o >/proc/sysrq-trigger
sleep 60
