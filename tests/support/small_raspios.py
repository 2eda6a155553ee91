"""An image of the layout of Raspberry Pi OS Lite, as pi-gen makes it: small, and nothing in it runs.

An MBR with a number; a FAT labelled `bootfs` with the firmware's files, the kernels and cloud-init's stubs;
an ext4 labelled `rootfs` that mounts both by PARTUUID.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from image.boards import RASPIOS_BOARDS
from image.tools import tools
from tests.support import small_system
from tests.virtual_pi.processes import need

from image import tree

EPOCH = small_system.EPOCH
DISK_ID = 0x4F1A2B3C
MIB = 1 << 20
BOOT_START, BOOT_BYTES, ROOT_BYTES = 8 * MIB, 40 * MIB, 24 * MIB

CMDLINE = (
    f"console=serial0,115200 console=tty1 root=PARTUUID={DISK_ID:08x}-02 rootfstype=ext4 fsck.repair=yes"
    " rootwait"
)
FIRST_START = {"bookworm": " quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n", "trixie": " resize\n"}
FSTAB = f"""\
proc            /proc           proc    defaults          0       0
PARTUUID={DISK_ID:08x}-01  /boot/firmware  vfat    defaults          0       2
PARTUUID={DISK_ID:08x}-02  /               ext4    defaults,noatime  0       1
"""
CONFIG = "dtparam=audio=on\nauto_initramfs=1\narm_boost=1\n\n[cm4]\notg_mode=1\n\n[all]\n"
META_DATA = "dsmode: local\ninstance_id: rpios-image\n"


def boot_files(suite: str = "trixie") -> dict[str, bytes]:
    names = {name for board in RASPIOS_BOARDS.values() for name in (board.device_tree, *board.firmware)}
    files = {name: name.encode() * 500 for name in names}
    files |= {"overlays/README": b"What overlays do\n", "overlays/dwc2.dtbo": b"\xd0\x0d" * 300}
    files |= {"config.txt": CONFIG.encode(), "cmdline.txt": (CMDLINE + FIRST_START[suite]).encode()}
    if suite == "trixie":
        files |= {
            "meta-data": META_DATA.encode(),
            "user-data": b"#cloud-config\n",
            "network-config": b"# none\n",
        }
    return files


def root_files(suite: str = "trixie", *, machine: int = 183) -> dict[str, bytes]:
    status = "Package: linux-image-rpi-v8\nStatus: install ok installed\nVersion: 1:6.12.47-1\n"
    status += "Architecture: arm64\n\n"
    files = {
        "etc/rpi-issue": b"Raspberry Pi reference 2026-10-06\nGenerated using pi-gen, stage2\n",
        "etc/fstab": FSTAB.encode(),
        "etc/resolv.conf": b"nameserver 8.8.8.8\n",
        "boot/config.txt": b"It is in /boot/firmware\n",
        "usr/lib/os-release": f"ID=debian\nVERSION_CODENAME={suite}\n".encode(),
        "usr/bin/dpkg": b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        + b"\x03\0"
        + machine.to_bytes(2, "little")
        + bytes(60),
        "var/lib/dpkg/status": status.encode(),
    }
    return files | ({"usr/bin/cloud-init": b"#!/usr/bin/python3\n"} if suite == "trixie" else {})


def system(folder: Path, root: dict[str, bytes], boot: dict[str, bytes]) -> Path:
    """The canonical tar of it."""
    debian = tuple(name for name in small_system.contents() if name.startswith("boot/firmware/"))
    files = root | {f"{tree.BOOT}/{name}": content for name, content in boot.items()}
    source = small_system.write(folder / "source.tar", leave_out=debian, change=files)
    tree.canonical(source, folder / "root.tar", epoch=EPOCH)
    source.unlink()
    return folder / "root.tar"


def image(
    folder: Path,
    *,
    root: dict[str, bytes] | None = None,
    boot: dict[str, bytes] | None = None,
    part: Path | None = None,
) -> Path:
    """The image file; `root` and `boot` in place of what trixie has, or `part`, a whole root file system."""
    folder.mkdir(parents=True, exist_ok=True)
    card, start = folder / "raspios.img", BOOT_START + BOOT_BYTES
    root_bytes = part.stat().st_size if part else ROOT_BYTES
    with card.open("wb") as file:
        file.truncate(start + root_bytes)
    lines = (f"start={BOOT_START // 512}, size={BOOT_BYTES // 512}, type=c", f"start={start // 512}, type=83")
    plan = "\n".join(("label: dos", f"label-id: {DISK_ID:#x}", *lines, ""))
    sfdisk = [need("sfdisk", "fdisk"), "--quiet", "--no-reread", "--no-tell-kernel", str(card)]
    subprocess.run(sfdisk, input=plan.encode(), check=True, timeout=60)

    at = ("-i", f"{card}@@{BOOT_START}")
    size = ("-F", "-c", "1", "-T", str(BOOT_BYTES // 512))
    tools().run("mformat", *at, *size, "-v", "bootfs", "::", epoch=EPOCH)
    files = folder / "files"
    for name, content in (boot_files() if boot is None else boot).items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(content)
    tools().run("mcopy", *at, "-s", *map(str, sorted(files.iterdir())), "::/", epoch=EPOCH)

    if part is None:
        part = folder / "root.ext4"
        with part.open("wb") as file:
            file.truncate(root_bytes)
        archive = system(folder, root_files() if root is None else root, {})
        kind = ("-t", "ext4", "-b", "4096", "-L", "rootfs")
        tools().run("mke2fs", "-q", *kind, "-d", str(archive), str(part), epoch=EPOCH)
    with part.open("rb") as source, card.open("r+b") as target:
        target.seek(start)
        while data := source.read(MIB):
            target.seek(len(data), 1) if data == bytes(len(data)) else target.write(data)
    return card
