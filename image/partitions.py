"""The image of a card, as others made it: from a file, compressed or not, to its two partitions."""

from __future__ import annotations

import lzma
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from image.errors import BadInputError
from image.filesystems import MIB, SECTOR
from image.progress import say
from image.system import CURE

LARGEST_ROOT = 3 << 30
"""Bytes of the root file system: Raspberry Pi OS Lite's has 2.4 GB, the desktop's more than this."""

_LARGEST_IMAGE = LARGEST_ROOT + (1 << 30)
_XZ = b"\xfd7zXZ\0"
_FATS, _LINUX, _GPT = (0x0B, 0x0C, 0x0E), 0x83, 0xEE  # types in an MBR's table


@dataclass(frozen=True)
class Partition:
    """In bytes."""

    kind: int
    start: int
    size: int


def unpacked(file: Path, work: Path) -> Path:
    """The image itself, sparse; `file`, if that is not compressed."""
    with file.open("rb") as packed:
        if packed.read(len(_XZ)) != _XZ:
            return file
    image, done = work / "image.raw", 0
    try:
        with lzma.open(file) as source, image.open("wb") as target:
            while data := source.read(MIB):
                if done == 0:
                    table(data[:SECTOR], _LARGEST_IMAGE)
                done += len(data)
                if done > _LARGEST_IMAGE:
                    most = f"{_LARGEST_IMAGE >> 20} MB"
                    raise BadInputError(f"it holds more than {most}: it is no Lite image", hint=CURE)
                _write_sparse(target, data)
                if done % (512 * MIB) == 0:
                    say(f"  {done >> 20} MB unpacked")
            target.truncate(done)
    except (lzma.LZMAError, EOFError) as error:
        raise BadInputError(f"it is damaged or cut short: {error}", hint="Download it anew") from error
    return image


def table(sector: bytes, size: int) -> tuple[Partition, Partition]:
    """The boot and the root partition, by the MBR in the image's first sector; `size` is that of the image.

    Raises BadInputError for a table that is not Raspberry Pi OS's.
    """
    if len(sector) < SECTOR or sector[510:] != b"\x55\xaa":
        raise BadInputError("it has no partition table, so it is no image of a card", hint=CURE)
    entries = [struct.unpack_from("<4xB3xII", sector, 446 + 16 * number) for number in range(4)]
    found = [Partition(kind, start * SECTOR, count * SECTOR) for kind, start, count in entries if kind]
    if any(partition.kind == _GPT for partition in found):
        raise BadInputError("it has a GPT, which Raspberry Pi OS has not", hint=CURE)
    if len(found) != 2 or found[0].kind not in _FATS or found[1].kind != _LINUX:
        raise BadInputError("it has not the two partitions of Raspberry Pi OS, FAT and Linux", hint=CURE)
    boot, root = found
    if root.size > LARGEST_ROOT:
        raise BadInputError(f"its root file system has {root.size >> 20} MB: it is no Lite image", hint=CURE)
    if max(boot.start + boot.size, root.start + root.size) > size:
        raise BadInputError("it is cut short: its partitions end after it does", hint="Download it anew")
    return boot, root


def cut(source: BinaryIO, partition: Partition, target: Path) -> None:
    source.seek(partition.start)
    with target.open("wb") as out:
        for at in range(0, partition.size, MIB):
            _write_sparse(out, source.read(min(MIB, partition.size - at)))
        out.truncate(partition.size)


def _write_sparse(target: BinaryIO, data: bytes) -> None:
    if data == bytes(len(data)):
        target.seek(len(data), 1)
    else:
        target.write(data)
