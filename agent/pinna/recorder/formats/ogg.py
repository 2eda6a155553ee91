"""Ogg pages (RFC 3533): reading them from a stream, and finding the last whole one of a file."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pinna.recorder.formats.form import Content

_HEAD: Final = struct.Struct("<4sBBqIIIB")
CONTINUED: Final = 1
FIRST: Final = 2
LAST: Final = 4
NO_GRANULE: Final = -1
OPUS_RATE: Final = 48_000
"""Granule positions of Opus count samples of 48 kHz, whatever went in (RFC 7845, 4)."""


@dataclass(frozen=True, slots=True)
class Page:
    """`granule`: the position after the last packet that ends here; -1 when none does."""

    data: bytes
    flags: int
    granule: int
    serial: int
    sequence: int
    body: bytes


def page_length(data: bytes | bytearray, place: int = 0) -> int | None:
    """Bytes of the page that begins there; None when more bytes are needed to tell."""
    if len(data) - place < _HEAD.size:
        return None
    segments = data[place + 26]
    table = data[place + 27 : place + 27 + segments]
    return None if len(table) < segments else 27 + segments + sum(table)


def parse(data: bytes) -> Page:
    """A whole page. Raises ValueError when its checksum does not fit."""
    capture, _version, flags, granule, serial, sequence, checksum, segments = _HEAD.unpack_from(data)
    if capture != b"OggS" or checksum != _checksum(data):
        raise ValueError("not a whole Ogg page")
    return Page(data, flags, granule, serial, sequence, data[27 + segments :])


def _pages(file: BinaryIO) -> tuple[int, int, int, int]:
    """Of the whole pages from the start: where the last begins and ends, its granule, and Opus' pre-skip."""
    size = file.seek(0, os.SEEK_END)
    place, last, granule, pre_skip = 0, 0, 0, 0
    while True:
        head = os.pread(file.fileno(), 27 + 255, place)
        length = page_length(head) if head[:4] == b"OggS" else None
        if length is None or place + length > size:
            return last, place, granule, pre_skip
        if place == 0 and head[28:36] == b"OpusHead":
            pre_skip = int.from_bytes(head[38:40], "little")
        last = place
        position = _HEAD.unpack_from(head)[3]
        granule = position if position != NO_GRANULE else granule
        place += length


def content(path: Path, rate: int) -> Content:
    """Of an Opus file that began with its headers: what its whole pages hold, in samples of `rate`."""
    with path.open("rb") as file:
        last, end, granule, pre_skip = _pages(file)
        if end and not _whole(os.pread(file.fileno(), end - last, last)):
            end = last  # the tail of a power cut; the page before it was on the disk a second earlier
            granule = _granule_before(file, last)
    samples = max(0, granule - pre_skip) * rate // OPUS_RATE
    return Content(samples, end if samples else 0)


def mend(path: Path, found: Content) -> None:
    """End the file with its last whole page, marked as the end of the stream."""
    with path.open("r+b") as file:
        file.truncate(found.end)
        last, end, _granule, _pre_skip = _pages(file)
        page = bytearray(os.pread(file.fileno(), end - last, last))
        page[5] |= LAST
        page[22:26] = _checksum(bytes(page)).to_bytes(4, "little")
        os.pwrite(file.fileno(), page, last)
        os.fsync(file.fileno())


def _whole(page: bytes) -> bool:
    try:
        parse(page)
    except ValueError:
        return False
    return True


def _granule_before(file: BinaryIO, limit: int) -> int:
    place, granule = 0, 0
    while place < limit:
        head = os.pread(file.fileno(), 27 + 255, place)
        length = page_length(head)
        assert length is not None, "walked before"
        position = _HEAD.unpack_from(head)[3]
        granule = position if position != NO_GRANULE else granule
        place += length
    return granule


def _table() -> list[int]:
    table = []
    for value in range(256):
        crc = value << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
        table.append(crc)
    return table


_CRC: Final = _table()


def _checksum(page: bytes) -> int:
    """Over the page with its checksum taken as zero (RFC 3533, 6)."""
    crc = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return crc


@dataclass(frozen=True, slots=True)
class Codec:
    """What the first page of a logical stream says. `headers`: packets before the first of sound."""

    name: str
    rate: int
    channels: int
    headers: int


def codec(first: Page) -> Codec:
    """Raises ValueError for a codec that is not known here. The Content-Type does not tell: this does."""
    body = first.body
    if body.startswith(b"OpusHead"):
        return Codec("opus", OPUS_RATE, body[9], 2)
    if body.startswith(b"\x01vorbis"):
        return Codec("vorbis", int.from_bytes(body[12:16], "little"), body[11], 3)
    if body.startswith(b"\x7fFLAC"):
        packed = int.from_bytes(body[27:31], "big")  # 20 bits rate, 3 bits channels less one
        return Codec("flac", packed >> 12, (packed >> 9 & 7) + 1, 1 + int.from_bytes(body[7:9], "big"))
    raise ValueError(f"Ogg with an unknown codec, which begins {body[:8]!r}")


@dataclass(frozen=True, slots=True)
class Audio:
    """A page of sound; `before`: the granule position it goes on from; its own when that is not known."""

    page: Page
    before: int

    @property
    def samples(self) -> int:
        return 0 if self.page.granule == NO_GRANULE else max(0, self.page.granule - self.before)


@dataclass(frozen=True, slots=True)
class Start:
    """A logical stream begins: its header pages, whole."""

    codec: Codec
    header: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """Pages that never came, by the sequence numbers, and how many samples, by the granules."""

    pages: int
    samples: int
    header: bytes


class Pager:
    """Cuts a stream into pages, header pages apart. Raises ValueError for an unknown codec."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._codec: Codec | None = None
        self._header = b""
        self._packets = 0
        self._granule: int | None = None
        self._sequence = 0
        self._started = False

    def feed(self, data: bytes) -> Iterator[Start | Audio | Missing]:
        self._data += data
        while (begin := self._data.find(b"OggS")) >= 0:
            length = page_length(self._data, begin)
            if length is None or begin + length > len(self._data):
                del self._data[:begin]
                return
            try:
                page = parse(bytes(self._data[begin : begin + length]))
            except ValueError:
                del self._data[: begin + 4]  # damaged, or no page: look on
                continue
            del self._data[: begin + length]
            yield from self._page(page)
        del self._data[:-3]

    def _page(self, page: Page) -> Iterator[Start | Audio | Missing]:
        if page.flags & FIRST:
            self._codec, self._header, self._packets = codec(page), b"", 0
            self._granule, self._started = None, False
        if self._codec is None:
            return  # between header pages nobody saw the first of
        if not self._started:
            self._header += page.data
            segments = page.data[27 : 27 + page.data[26]]
            self._packets += sum(lace < 255 for lace in segments)
            if self._packets >= self._codec.headers:
                self._started, self._sequence = True, page.sequence
                yield Start(self._codec, self._header)
            return
        if self._granule is not None and page.sequence != self._sequence + 1:
            samples = 0 if page.granule == NO_GRANULE else max(0, page.granule - self._granule)
            yield Missing(max(1, page.sequence - self._sequence - 1), samples, self._header)
            self._granule = None
        self._sequence = page.sequence
        before = self._granule if self._granule is not None else max(0, page.granule)
        if page.granule != NO_GRANULE:
            self._granule = page.granule
        yield Audio(page, before)


def stream_content(path: Path, granule: int) -> Content:
    """Of a file of a stream that went on from `granule`: its whole pages."""
    with path.open("rb") as file:
        _last, end, last_granule, _pre_skip = _pages(file)
    samples = max(0, last_granule - granule)
    return Content(samples, end if samples else 0)
