"""A small initramfs for the virtual Pi, made on the host in a second.

Debian's own takes minutes to generate under emulation and holds some 40 MB; this one holds busybox,
the few modules between the kernel and an ext4 root on a virtio disk or an SD card, and `init.sh`.
"""

from __future__ import annotations

import gzip
import lzma
import stat
from pathlib import Path

MODULES = (
    "virtio_mmio",
    "virtio_blk",
    "bcm2835",  # the Pi's SD host
    "sdhci_iproc",  # its other one
    "crc32c_generic",
    "ext4",
)


def load_order(modules: Path, wanted: tuple[str, ...] = MODULES) -> list[Path]:
    """The files of `wanted` and of what they depend on, dependencies first.

    `modules` is a /lib/modules/VERSION. Modules that are built in, or that this kernel does not know, are
    left out. The dependencies are those of each module's own .modinfo section: no depmod has to have run.
    """
    files = {path.name.split(".")[0].replace("-", "_"): path for path in (modules / "kernel").rglob("*.ko*")}
    ordered: dict[str, Path] = {}

    def visit(name: str) -> None:
        if name in ordered or name not in files:
            return
        for dependency in _depends(files[name]):
            visit(dependency)
        ordered[name] = files[name]

    for name in wanted:
        visit(name)
    return list(ordered.values())


def _depends(file: Path) -> list[str]:
    packed = file.read_bytes()
    module = lzma.decompress(packed) if file.suffix == ".xz" else packed
    at = module.find(b"\0depends=")
    if at < 0:
        return []
    names = module[at + 9 : module.index(b"\0", at + 9)].decode("ascii")
    return [name.replace("-", "_") for name in names.split(",") if name]


def build(rootfs: Path) -> bytes:
    """The gzipped cpio archive, from an unpacked Debian system with one kernel and busybox-static."""
    (version,) = (rootfs / "usr/lib/modules").iterdir()
    modules = load_order(version)
    folder, program, text = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    entries: list[tuple[str, int, bytes]] = [
        ("bin", folder, b""),
        ("modules", folder, b""),
        ("bin/busybox", program, (rootfs / "usr/bin/busybox").read_bytes()),
        ("init", program, Path(__file__).with_name("init.sh").read_bytes()),
        ("modules/order", text, "".join(f"{file.name}\n" for file in modules).encode()),
        # Compressed as they are: the kernel unpacks them itself (CONFIG_MODULE_DECOMPRESS).
        *((f"modules/{file.name}", text, file.read_bytes()) for file in modules),
    ]
    return gzip.compress(cpio(entries), 6, mtime=0)


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """(path, mode, content) in the kernel's "newc" format (Documentation/driver-api/early-userspace)."""
    out = bytearray()
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
