#!/bin/sh
# First process of the emulated machine that makes a system of the unpacked packages: unpacks those that need a
# preinst script, configures all, and makes what the boot partition holds. The host has made /boot/firmware an
# empty folder. Powers off, with "pinna: configured" on the console if all went well.
export PATH=/run/build:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DPKG_COLORS=never

power_off() {
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
}

give_up() {
    echo "pinna: failed: $*"
    power_off
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir /run/build
# The host ran depmod already (5 s instead of a minute); the initramfs is made once, at the end.
printf '#!/bin/sh\nexit 0\n' | tee /run/build/depmod >/run/build/update-initramfs
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /run/build/* /usr/sbin/policy-rc.d
read -r words </proc/cmdline
for word in $words; do
    case $word in pinna.epoch=*) SOURCE_DATE_EPOCH=${word#*=} ;; esac
done
export SOURCE_DATE_EPOCH

later=/var/cache/apt/archives/later
dpkg --force-depends --force-unsafe-io --unpack "$later"/base-passwd_* "$later"/base-files_* || give_up base
dpkg --force-depends --force-unsafe-io --configure base-passwd base-files || give_up base
rm "$later"/base-passwd_* "$later"/base-files_*
dpkg --force-depends --force-unsafe-io --unpack --recursive "$later" || give_up unpacking
cp /usr/share/libc-bin/nsswitch.conf /etc/ # libnss-mdns adds to it, and may come before libc-bin brings it
dpkg --force-unsafe-io --force-confold --configure --pending || give_up configuring
[ -z "$(dpkg --audit)" ] || give_up "$(dpkg --audit)"

# What Debian's hook writes to the boot partition, at each update of the kernel or the firmware: by its defaults
# it describes the machine it runs on. The file is a conffile, so an update would ask: ours takes its place.
dpkg-divert --quiet --local --rename --divert /etc/default/raspi-firmware.debian --add /etc/default/raspi-firmware ||
    give_up diverting
cat >/etc/default/raspi-firmware <<END
# Read by /etc/kernel/postinst.d/z50-raspi-firmware; raspi-firmware.debian explains.
CMA=0
ROOTPART=LABEL=PINNA
CONSOLES="tty0 ttyS1,115200"
END
# xz'ed modules do not get smaller; at zstd's default of 19 a small Pi takes minutes for each kernel.
# Without the type, no fsck goes in: its hook would look for the root's in fstab, which role firstboot writes later.
printf '%s\n' COMPRESSLEVEL=1 FSTYPE=ext4 >/etc/initramfs-tools/conf.d/pinna
# Of what Debian takes along for any machine, what no Pi needs to find its root: half of the initramfs, which lies
# on the card twice. What it names is left out, all else stays: that boots more than a list of what is needed would.
cat >/etc/initramfs-tools/hooks/pinna <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
cd "$DESTDIR/lib/modules/$version/kernel"
rm -rf drivers/net drivers/gpu drivers/infiniband drivers/message drivers/target net
rm -rf fs/btrfs fs/xfs fs/f2fs fs/jfs fs/reiserfs fs/nfs fs/smb
find drivers/scsi -mindepth 1 -type d -prune -exec rm -rf {} +
rm -f "$DESTDIR/usr/lib/udev/hwdb.bin"
END
chmod 755 /etc/initramfs-tools/hooks/pinna
version=$(ls /usr/lib/modules)
rm /run/build/update-initramfs
echo "pinna: initramfs"
update-initramfs -c -k "$version" || give_up initramfs
[ -s /boot/firmware/initrd.img-"$version" ] || give_up "the hook of raspi-firmware left no initramfs"

rm -rf /usr/sbin/policy-rc.d "$later"
echo u >/proc/sysrq-trigger # an orderly remount is refused: this shell still runs from a C library that is gone
sleep 3
echo 'pinna: configured'
power_off
