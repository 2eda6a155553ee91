#!/bin/sh
# mmdebstrap's extract hook; $1 is the root folder, its files already extracted. Unpacks the packages with
# the host's dpkg, so that decompressing and file handling run at native speed. Packages with a preinst
# script would need an emulator here: they are left in the archives folder for configure.sh, which runs in
# an emulated machine. The kernel alone is unpacked without its preinst (it only runs /etc/kernel/preinst.d,
# empty here): 90 MB of xz take minutes under emulation.
set -eu
root=$1
debs=$root/var/cache/apt/archives
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/triggers" "$debs/later"
touch "$root/var/lib/dpkg/status"
dpkg-deb --field "$debs"/linux-image-arm64_*.deb Architecture >"$root/var/lib/dpkg/arch"

for deb in "$debs"/*.deb; do
    dpkg-deb --ctrl-tarfile "$deb" | tar -t | grep -qx './preinst' || continue
    case ${deb##*/} in
        linux-image-[0-9]*)
            dpkg-deb --raw-extract "$deb" "$debs/kernel"
            rm "$debs/kernel/DEBIAN/preinst"
            dpkg-deb --nocheck -Znone --build "$debs/kernel" "$deb" >/dev/null
            rm -r "$debs/kernel"
            ;;
        *) mv "$deb" "$debs/later/" ;;
    esac
done

# What mmdebstrap was told to leave out, dpkg would bring back: with --root it reads the host's configuration.
told=$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap
set --
[ ! -e "$told" ] || while read -r line; do
    case $line in path-*) set -- "$@" "--$line" ;; esac
done <"$told"

log=$root/var/cache/apt/unpack.log
if ! dpkg "$@" --root="$root" --force-depends --force-architecture --force-unsafe-io --unpack "$debs"/*.deb >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    exit 1
fi
rm "$debs"/*.deb "$log" "$root/var/lib/dpkg/arch"
