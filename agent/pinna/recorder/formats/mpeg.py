"""Frames of MP3 (ISO 11172-3, 13818-3) and of AAC in ADTS (ISO 13818-7): their beginnings and lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinna.recorder.formats.form import Content

_MPEG_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_AAC_RATES: Final = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000),
    *(22_050, 16_000, 12_000, 11_025, 8_000, 7_350),
)
_V1_L1: Final = (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
_V1_L2: Final = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_V1_L3: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V2_L1: Final = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_V2_L23: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
HEADER_BYTES: Final = 7


@dataclass(frozen=True, slots=True)
class Header:
    """`format` is mp3 or aac; `length` in bytes with the header; `samples` of one channel."""

    format: str
    rate: int
    channels: int
    samples: int
    length: int

    def like(self, other: Header) -> bool:
        """Of the same stream, as far as headers tell."""
        return (self.format, self.rate, self.channels) == (other.format, other.rate, other.channels)


def header(data: bytes | bytearray, place: int = 0) -> Header | None:
    """What the seven bytes there say; None when they begin no frame."""
    if len(data) - place < HEADER_BYTES or data[place] != 0xFF or data[place + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[place + 1] >> 3 & 3, 4 - (data[place + 1] >> 1 & 3)
    if layer == 4:
        return _aac(data, place)
    rate_index, rate_code = data[place + 2] >> 4, data[place + 2] >> 2 & 3
    if version == 1 or rate_index in (0, 15) or rate_code == 3:
        return None  # reserved; or free format, whose frames do not tell their length
    rate = _MPEG_RATES[version][rate_code]
    padding = data[place + 2] >> 1 & 1
    first = version == 3
    if layer == 1:
        bits = (_V1_L1 if first else _V2_L1)[rate_index]
        length, samples = (12_000 * bits // rate + padding) * 4, 384
    else:
        bits = ((_V1_L2 if layer == 2 else _V1_L3) if first else _V2_L23)[rate_index]
        samples = 1152 if first or layer == 2 else 576
        length = samples // 8 * 1000 * bits // rate + padding
    return Header("mp3", rate, 1 if data[place + 3] >> 6 == 3 else 2, samples, length)


def _aac(data: bytes | bytearray, place: int) -> Header | None:
    if data[place + 1] & 0xF6 != 0xF0:
        return None
    rate_index = data[place + 2] >> 2 & 15
    channels = (data[place + 2] & 1) << 2 | data[place + 3] >> 6
    length = (data[place + 3] & 3) << 11 | data[place + 4] << 3 | data[place + 5] >> 5
    if rate_index >= len(_AAC_RATES) or length <= HEADER_BYTES:
        return None
    samples = 1024 * ((data[place + 6] & 3) + 1)
    return Header("aac", _AAC_RATES[rate_index], channels, samples, length)


@dataclass(frozen=True, slots=True)
class Frame:
    """`header` None: bytes between frames, a tag for instance."""

    data: bytes
    header: Header | None


class Framer:
    """Cuts a stream into frames; what comes before the first is dropped, for it is the end of another."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._last: Header | None = None
        self.dropped = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._data += data
        place = 0
        while True:
            begin, found = self._next(place)
            if found is None:
                break
            if begin > place:
                if self._last is None:
                    self.dropped += begin - place
                else:
                    yield Frame(bytes(self._data[place:begin]), None)
            self._last = found
            place = begin + found.length
            yield Frame(bytes(self._data[begin:place]), found)
        del self._data[:place]

    def _next(self, place: int) -> tuple[int, Header | None]:
        """The next whole frame. To be believed it must follow another, or be followed by one."""
        begin = place
        while (begin := self._data.find(b"\xff", begin)) >= 0:
            found = header(self._data, begin)
            end = begin + found.length if found else 0
            if found and self._last and begin == place and found.like(self._last):
                return (begin, found) if end <= len(self._data) else (begin, None)
            if found and end + HEADER_BYTES > len(self._data):
                return begin, None  # more is needed to tell
            if found:
                after = header(self._data, end)
                if after and after.like(found):
                    return begin, found
            elif len(self._data) - begin < HEADER_BYTES:
                break
            begin += 1
        return place, None

    @property
    def rest(self) -> int:
        """Bytes that wait for more."""
        return len(self._data)


def content(path: Path) -> Content:
    """Of a file that begins with a frame: up to the end of the last whole one."""
    framer, samples, end = Framer(), 0, 0
    with path.open("rb") as file:
        while data := file.read(1 << 16):
            for frame in framer.feed(data):
                end += len(frame.data)
                samples += frame.header.samples if frame.header else 0
    return Content(samples, end if samples else 0)
