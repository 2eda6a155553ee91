"""A small system as the emulated machine would hand it over: enough for each board, and each kind of file."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

from image.boards import BOARDS

EPOCH = 1_790_000_000
KERNEL = "vmlinuz-6.12.0-arm64"
CONFIG = (
    f"arm_64bit=1\nenable_uart=1\nupstream_kernel=1\n\nkernel={KERNEL}\ninitramfs initrd.img-6.12.0-arm64\n"
)
CMDLINE = " console=tty0 console=ttyS1,115200 root=LABEL=PINNA rw fsck.repair=yes net.ifnames=0  rootwait \n"
STATUS = (
    "Package: linux-image-arm64\nStatus: install ok installed\nVersion: 6.12.0-1\nArchitecture: arm64\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n\n"
)


def contents() -> dict[str, tuple[int, bytes]]:
    """Name -> mode, content."""
    boot = {
        name: b"\x01" * 5000 for board in BOARDS.values() for name in (board.device_tree, *board.firmware)
    }
    boot |= {"bcm2712-rpi-5-b.dtb": b"5", "overlays/some.dtbo": b"\x02" * 100, KERNEL: b"\x03" * 100_000}
    boot |= {"initrd.img-6.12.0-arm64": b"\x04" * 50_000, "config.txt": CONFIG.encode()}
    boot |= {"cmdline.txt": CMDLINE.encode()}
    files = {f"boot/firmware/{name}": (0o755, data) for name, data in boot.items()}
    files |= {"usr/bin/sudo": (0o4755, b"\x7fELF" * 3000), "etc/hostname": (0o644, b"pinna\n")}
    files |= {"etc/shadow": (0o640, b"root:!:1::::::\n"), "var/lib/dpkg/status": (0o644, STATUS.encode())}
    files |= {
        ".hidden": (0o600, b"h"),
        "usr/lib/empty": (0o644, b""),
        "usr/share/zeros": (0o644, bytes(20_000)),
    }
    return files


def write(
    path: Path, *, seed: int = 0, leave_out: tuple[str, ...] = (), change: dict[str, bytes] | None = None
) -> Path:
    """A tar in the order and with the times of one particular build, which `seed` decides."""
    chance = random.Random(seed)
    files = {name: pair for name, pair in contents().items() if name not in leave_out}
    files |= {name: (0o644, data) for name, data in (change or {}).items()}
    folders = {str(parent) for name in files for parent in Path(name).parents if parent.name}
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    for name in (*folders, "dev", "tmp", "proc"):
        entries.append((_entry(name, tarfile.DIRTYPE, 0o755, chance), b""))
    for name, (mode, data) in files.items():
        info = _entry(name, tarfile.REGTYPE, mode, chance)
        info.size, info.gid = len(data), 42 if name == "etc/shadow" else 0
        entries.append((info, data))
    entries.append((_entry("dev/null", tarfile.CHRTYPE, 0o666, chance), b""))
    link = _entry("bin", tarfile.SYMTYPE, 0o777, chance)
    link.linkname = "usr/bin"
    entries.append((link, b""))
    chance.shuffle(entries)
    # Two names of one file: which of them holds the content depends on the order in which tar met them.
    names = ["usr/bin/perl", "usr/bin/perl5.40.1"]
    chance.shuffle(names)
    held, named = (_entry(name, tarfile.REGTYPE, 0o755, chance) for name in names)
    held.size, held.mtime = 9000, 1_700_000_000
    named.type, named.linkname = tarfile.LNKTYPE, f"./{names[0]}"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_entry("", tarfile.DIRTYPE, 0o755, chance))
        for info, data in [*entries, (held, b"p" * 9000), (named, b"")]:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def _entry(name: str, kind: bytes, mode: int, chance: random.Random) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{name}" if name else ".")
    info.type, info.mode, info.uname = kind, mode, f"builder-{chance.random()}"
    info.mtime = EPOCH + chance.randrange(1, 10_000)  # later than the epoch: times of the build
    info.pax_headers = {"atime": str(info.mtime), "ctime": str(info.mtime)}
    return info
