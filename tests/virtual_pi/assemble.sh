#!/bin/sh
# Under fakeroot: WORK/root.tar -> WORK/root -> WORK/disk.raw, an ext4 file system with the files' true owners.
# Arguments: WORK, the script to run as the first process of the emulated machine, bytes, label.
set -eu
work=$1 script=$2 bytes=$3 label=$4
mkdir "$work/root"
tar -C "$work/root" -xpf "$work/root.tar" --exclude='./dev/*'
depmod -b "$work/root" "$(ls "$work/root/usr/lib/modules")"
mkdir -p "$work/root/var/lib/pinna-base"
cp "$script" "$work/root/var/lib/pinna-base/configure"
chmod 755 "$work/root/var/lib/pinna-base/configure"
truncate -s "$bytes" "$work/disk.raw"
# Inode tables and journal are holes of the sparse file, and count as cleared: or else each fresh copy clears them.
mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -L "$label" -d "$work/root" "$work/disk.raw"
