"""The block map of an image: what bmaptool has to write, and the checksums of it.

Format: https://github.com/yoctoproject/bmaptool, version 2.0. A block that is not in the map keeps what the
card held before, so a block of zeros may be left out only if nothing reads it: ext4's free blocks, and
what follows the last file on the boot partition. Zeros of inode tables, of the
journal and of the FAT are in the map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

from image.filesystems import BLOCK, BOOT_BYTES, BOOT_START, SECTOR, Image

_PLACE = "0" * 64
_ZEROS = bytes(BLOCK)


def block_map(made: Image) -> str:
    """The text of the .bmap file of the image."""
    image = made.path
    unread = {block for first, last in made.free for block in range(first, last + 1)}
    unread.update(_unread_in_boot(image))
    ranges, mapped = [], 0
    total = image.stat().st_size // BLOCK
    with image.open("rb") as file:
        needed = (block for block in range(total) if block not in unread or _at(file, block) != _ZEROS)
        for first, last in _runs(needed):
            checksum = hashlib.sha256()
            file.seek(first * BLOCK)
            for _ in range(first, last + 1):
                checksum.update(file.read(BLOCK))
            span = str(first) if first == last else f"{first}-{last}"
            ranges.append(f'        <Range chksum="{checksum.hexdigest()}"> {span} </Range>\n')
            mapped += last + 1 - first
    text = _TEXT.format(
        name=escape(image.name),
        size=image.stat().st_size,
        block=BLOCK,
        blocks=total,
        mapped=mapped,
        own=_PLACE,
        ranges="".join(ranges),
    )
    return text.replace(_PLACE, hashlib.sha256(text.encode()).hexdigest())


_TEXT = """<?xml version="1.0" ?>
<!-- Written to a card by: bmaptool copy {name}.xz /dev/CARD -->
<bmap version="2.0">
    <ImageSize> {size} </ImageSize>
    <BlockSize> {block} </BlockSize>
    <BlocksCount> {blocks} </BlocksCount>
    <MappedBlocksCount> {mapped} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {own} </BmapFileChecksum>
    <BlockMap>
{ranges}    </BlockMap>
</bmap>
"""


def _at(file: BinaryIO, block: int) -> bytes:
    file.seek(block * BLOCK)
    return file.read(BLOCK)


def _runs(blocks: Iterator[int]) -> Iterator[tuple[int, int]]:
    """1, 2, 3, 7 -> (1, 3), (7, 7)."""
    for _, group in groupby(enumerate(blocks), key=lambda pair: pair[1] - pair[0]):
        numbers = [block for _, block in group]
        yield numbers[0], numbers[-1]


def _unread_in_boot(image: Path) -> Iterator[int]:
    """From the beginning of the FAT's data on; Microsoft's FAT specification, 3.1 to 3.3."""
    with image.open("rb") as file:
        file.seek(BOOT_START)
        sector = file.read(SECTOR)
    reserved = int.from_bytes(sector[14:16], "little")
    tables, table_sectors = sector[16], int.from_bytes(sector[36:40], "little")
    data = BOOT_START + (reserved + tables * table_sectors) * SECTOR
    yield from range(-(-data // BLOCK), (BOOT_START + BOOT_BYTES) // BLOCK)
