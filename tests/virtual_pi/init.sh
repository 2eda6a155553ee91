#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the virtual Pi: load what the root disk needs, mount it, hand over.
# root= is a device or LABEL=...; init= as ever. Panics (and QEMU then exits) when the disk does not come.
export PATH=/bin
/bin/busybox mkdir -p /dev /proc /sys /root
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do
    insmod "/modules/$module" || echo "initramfs: cannot load $module"
done </modules/order

root='' init=/sbin/init flags=ro
read -r words </proc/cmdline
for word in $words; do
    case $word in
        root=*) root=${word#root=} ;;
        init=*) init=${word#init=} ;;
        rw) flags=rw ;;
    esac
done

tries=0
until device=$(case $root in LABEL=*) findfs "$root" ;; *) echo "$root" ;; esac 2>/dev/null) && [ -b "$device" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 600 ]; then
        echo "initramfs: no root disk $root; block devices: $(ls /sys/class/block)"
        exit 1
    fi
    usleep 100000
done
mount -t ext4 -o "$flags" "$device" /root || exit 1
echo "initramfs: $device is mounted, starting $init"
mount --move /dev /root/dev
umount /proc
umount /sys
exec switch_root /root "$init"
