"""From a system's tar to a disk image: partition table, FAT and ext4, without root, loop devices or mounts.

All that is not content (times, UUIDs, hash seeds) follows from SOURCE_DATE_EPOCH and the content itself, so
the same tar gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image.errors import ImageError
from image.programs import ask
from image.tools import Tools
from tests.virtual_pi.processes import need

from image import tree

MIB = 1 << 20
SECTOR = 512
BLOCK = 4096
_ZEROS = bytes(MIB)

BOOT_START = 4 * MIB  # cards erase in blocks of 4 MiB
BOOT_BYTES = 512 * MIB
BOOT_LABEL = "CIDATA"  # where cloud-init's NoCloud looks for user-data
ROOT_START = BOOT_START + BOOT_BYTES
ROOT_LABEL = "PINNA"
_SPARE_BYTES = 192 * MIB  # journal and inode tables, and room for the first boot before it grows
_NAMESPACE = uuid.UUID("6e0c1f63-52a5-4d0f-9d3c-7c1f5b6f2a10")  # of the UUIDs made here; random, and ours


@dataclass(frozen=True)
class Names:
    """By what a system finds its partitions: their labels, and the disk's number (None: any will do)."""

    boot: str = BOOT_LABEL
    root: str = ROOT_LABEL
    disk_id: int | None = None


@dataclass(frozen=True)
class Layout:
    """What the image is made of; offsets and sizes in bytes."""

    size: int
    root_bytes: int
    disk_id: int
    root_uuid: uuid.UUID
    boot_serial: int
    names: Names = Names()


@dataclass(frozen=True)
class Image:
    """A disk image that `write` made; `free` are runs of its blocks (first, last) that ext4 does not use."""

    path: Path
    layout: Layout
    free: list[tuple[int, int]]


def layout(root: Path, boot: Sequence[tree.File], names: Names) -> Layout:
    """Sizes and identifiers for the system in the tar `root` and the boot partition's files."""
    content = hashlib.sha256()
    with root.open("rb") as file:
        while data := file.read(MIB):
            content.update(data)
    for item in boot:
        content.update(f"{item.path}\0{len(item.content)}\0".encode() + item.content)
    needed = sum(-(-entry.size // BLOCK) * BLOCK + 512 for _, entry in tree.members(root))
    root_bytes = -(-(needed * 104 // 100 + _SPARE_BYTES) // (4 * MIB)) * 4 * MIB
    identity = uuid.uuid5(_NAMESPACE, content.hexdigest())
    return Layout(
        size=ROOT_START + root_bytes,
        root_bytes=root_bytes,
        disk_id=names.disk_id or identity.time_low or 1,
        root_uuid=identity,
        boot_serial=identity.node & 0xFFFFFFFF,
        names=names,
    )


def write(
    image: Path,
    root: Path,
    boot: Sequence[tree.File],
    tools: Tools,
    *,
    epoch: int,
    names: Names = Names(),
) -> Image:
    """Make `image`, sparse, of the system in the tar `root` and of the boot partition's files."""
    plan = layout(root, boot, names)
    used = sum(-(-len(item.content) // BLOCK) * BLOCK for item in boot)
    if used > BOOT_BYTES - 8 * MIB:
        raise ImageError(
            f"the boot partition's files take {used >> 20} MiB, but it has {BOOT_BYTES >> 20} MiB",
            hint="Leave some out of /boot/firmware",
        )
    with image.open("wb") as file:
        file.truncate(plan.size)
    _write_table(image, plan)
    _write_fat(image, boot, plan, tools, epoch)
    return Image(image, plan, _write_ext4(image, root, plan, tools, epoch))


def _write_table(image: Path, plan: Layout) -> None:
    """A plain MBR: some boards start from nothing else."""
    table = (
        f"label: dos\nlabel-id: {plan.disk_id:#010x}\nunit: sectors\n"
        f"start={BOOT_START // SECTOR}, size={BOOT_BYTES // SECTOR}, type=c\n"
        f"start={ROOT_START // SECTOR}, size={plan.root_bytes // SECTOR}, type=83\n"
    )
    ask(
        [need("sfdisk", "fdisk"), "--quiet", "--no-reread", "--no-tell-kernel", str(image)],
        stdin=table.encode(),
    )


def _write_fat(image: Path, boot: Sequence[tree.File], plan: Layout, tools: Tools, epoch: int) -> None:
    at = ("-i", f"{image}@@{BOOT_START}")
    sectors = ("-T", str(BOOT_BYTES // SECTOR), "-h", "255", "-s", "63", "-H", str(BOOT_START // SECTOR))
    label = ("-v", plan.names.boot, "-N", f"{plan.boot_serial:08x}")
    tools.run("mformat", *at, "-F", "-c", str(BLOCK // SECTOR), *sectors, *label, "::", epoch=epoch)
    folders = sorted({parent for item in boot for parent in item.path.parents if parent.name})
    for folder in folders:
        tools.run("mmd", *at, f"::/{folder}", epoch=epoch)
    with tempfile.TemporaryDirectory(dir=image.parent) as work:
        for item in sorted(boot, key=lambda item: item.path):
            copy = Path(work) / "file"
            copy.write_bytes(item.content)
            os.utime(copy, (epoch, epoch))
            tools.run("mcopy", *at, "-m", "-o", str(copy), f"::/{item.path}", epoch=epoch)


def _write_ext4(image: Path, root: Path, plan: Layout, tools: Tools, epoch: int) -> list[tuple[int, int]]:
    """Returns the first and last of the image's blocks for each run that is free in the file system."""
    extended = f"hash_seed={plan.root_uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    with tempfile.TemporaryDirectory(dir=image.parent) as work:
        without_boot, partition = Path(work) / "root.tar", Path(work) / "root.ext4"
        with tarfile.open(root) as tar, tarfile.open(without_boot, "w", format=tarfile.PAX_FORMAT) as out:
            for entry in tar:
                if not entry.name.startswith(f"./{tree.BOOT}/"):
                    out.addfile(entry, tar.extractfile(entry) if entry.isreg() else None)
        with partition.open("wb") as file:
            file.truncate(plan.root_bytes)
        named = ("-L", plan.names.root, "-U", str(plan.root_uuid))
        tools.run(
            *("mke2fs", "-q", "-t", "ext4", "-b", str(BLOCK), *named),
            *("-m", "1", "-E", extended, "-d", str(without_boot), str(partition)),
            epoch=epoch,
        )
        without_boot.unlink()
        with partition.open("rb") as source, image.open("r+b") as target:
            for at in range(0, plan.root_bytes, MIB):
                if (data := source.read(MIB)) != _ZEROS:
                    target.seek(ROOT_START + at)
                    target.write(data)
        told = tools.run("dumpe2fs", str(partition), epoch=epoch).decode()
    first = ROOT_START // BLOCK
    lines = re.findall(r"(?m)^  Free blocks: (.*)$", told)
    runs = [run for line in lines for run in re.findall(r"(\d+)(?:-(\d+))?", line)]
    return [(first + int(start), first + int(end or start)) for start, end in runs]
