"""FLAC files that were cut off: where the last whole frame ends, how many samples there are (RFC 9639)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinna.recorder.formats.form import Content

_TAIL: Final = 1 << 20
"""Bytes looked at from the end: many of the largest frames that libsndfile writes (4096 × 8 × 32 bits)."""

_STREAMINFO_TOTAL: Final = 4 + 4 + 13
"""Where 4 bits of another field and the 36 bits of the total number of samples begin (RFC 9639, 8.2)."""


def _table(width: int, polynomial: int) -> list[int]:
    top, mask = 1 << (width - 1), (1 << width) - 1
    table = []
    for value in range(256):
        crc = value << (width - 8)
        for _ in range(8):
            crc = ((crc << 1) ^ polynomial if crc & top else crc << 1) & mask
        table.append(crc)
    return table


_CRC8: Final = _table(8, 0x07)
_CRC16: Final = _table(16, 0x8005)


@dataclass(frozen=True, slots=True)
class _Frame:
    begin: int
    first: int  # sample
    samples: int


def content(path: Path) -> Content:
    """Of what the file says of itself only the block size is believed. No whole frame: no samples."""
    with path.open("rb") as file:
        head = file.read(42)
        if len(head) < 42 or head[:4] != b"fLaC":
            return Content(0, 0)
        audio = _skip_metadata(file.fileno())
        size = file.seek(0, os.SEEK_END)
        if audio is None:
            return Content(0, 0)
        begin = max(audio, size - _TAIL)
        file.seek(begin)
        tail = file.read()
    block = int.from_bytes(head[8:10], "big")
    frames = list(_frames(tail, block))
    for frame in reversed(frames):
        for end in _ends(tail, frame.begin + 6):
            if _crc16(tail[frame.begin : end]) == 0:
                return Content(frame.first + frame.samples, begin + end)
    return Content(0, 0)


def _ends(tail: bytes, place: int) -> Iterator[int]:
    """Where a frame may end: where the sign of the next one is, or with the file."""
    while (place := tail.find(b"\xff\xf8", place)) >= 0:
        yield place
        place += 1
    yield len(tail)


def mend(path: Path, found: Content) -> None:
    """End the file with its last whole frame, and write the number of samples into its header."""
    begin = head(path, found.samples)
    with path.open("r+b") as file:
        file.truncate(found.end)
        file.write(begin)
        file.flush()
        os.fsync(file.fileno())


def head(path: Path, samples: int) -> bytes:
    """The file's first bytes with so many samples written in; frame sizes and MD5 zero, that is, unknown."""
    with path.open("rb") as file:
        begin = file.read(_STREAMINFO_TOTAL + 5)
    other = int.from_bytes(begin[_STREAMINFO_TOTAL:], "big") >> 36 << 36
    return (
        begin[:12] + bytes(6) + begin[18:_STREAMINFO_TOTAL] + (other | samples).to_bytes(5, "big") + bytes(16)
    )


def _skip_metadata(fd: int) -> int | None:
    """Where the first frame begins; None when the metadata is cut off."""
    place = 4
    while True:
        head = os.pread(fd, 4, place)
        if len(head) < 4:
            return None
        place += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            return place


def _frames(data: bytes, block: int) -> Iterator[_Frame]:
    """What looks like the header of a frame with a fixed block size, checked by its CRC-8."""
    place = data.find(b"\xff\xf8")
    while place >= 0:
        frame = _frame(data, place, block)
        if frame is not None:
            yield frame
        place = data.find(b"\xff\xf8", place + 1)


def _frame(data: bytes, place: int, block: int) -> _Frame | None:
    header = data[place : place + 16] + bytes(2)  # the last frame may be shorter; the CRC sees through zeros
    if len(header) < 8:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 0x0F
    lead = header[4]  # the frame's number, coded like UTF-8
    extra = 0 if lead < 0x80 else next((n for n in range(1, 7) if lead >> (6 - n) == (1 << (n + 2)) - 2), -1)
    if extra < 0 or rate_code == 15 or size_code == 0:
        return None
    number = lead if not extra else lead & ((1 << (6 - extra)) - 1)
    for byte in header[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    after = 5 + extra
    samples, used = _block_size(size_code, header[after : after + 2])
    after += used + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if after >= len(header) or _crc8(header[:after]) != header[after]:
        return None
    return _Frame(place, number * block, samples)


def _block_size(code: int, following: bytes) -> tuple[int, int]:
    """Samples, and how many of the following bytes say so (RFC 9639, 9.1.1)."""
    if code == 6:
        return following[0] + 1, 1
    if code == 7:
        return int.from_bytes(following, "big") + 1, 2
    if code == 1:
        return 192, 0
    return (144 << code, 0) if code < 6 else (1 << code, 0)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc16(data: bytes) -> int:
    """Zero over a whole frame, which ends with its own CRC."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ _CRC16[crc >> 8 ^ byte]
    return crc
