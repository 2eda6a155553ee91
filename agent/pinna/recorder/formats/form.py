"""What a segment's audio is, and what every kind of segment file can do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

SUFFIXES: Final = {
    **{"wav": ".wav", "flac": ".flac", "opus": ".opus"},
    **{"mp3": ".mp3", "aac": ".aac", "ogg-opus": ".opus", "ogg-vorbis": ".ogg", "ogg-flac": ".oga"},
}


@dataclass(frozen=True, slots=True)
class Form:
    """`format` is wav, flac or opus; `rate` in Hz; `bits` per sample of one channel.

    Of a stream: mp3, aac or ogg-CODEC, no bits; of Ogg, the granule position that the file goes on from.
    """

    format: str
    rate: int
    channels: int
    bits: int
    granule: int = 0

    @property
    def raw_bytes(self) -> int:
        """Bytes of one sample of all channels, as captured: little-endian, interleaved.

        Samples of 24 bits are captured packed for WAV; for libsndfile they are the upper part of 32 bits.
        """
        packed = self.bits if self.format == "wav" else (16 if self.bits == 16 else 32)
        return self.channels * packed // 8

    @property
    def alsa_format(self) -> str:
        return {2: "S16_LE", 3: "S24_3LE", 4: "S32_LE"}[self.raw_bytes // self.channels]

    @property
    def suffix(self) -> str:
        return SUFFIXES[self.format]

    def as_dict(self) -> dict[str, Any]:
        body = {"format": self.format, "rate": self.rate, "channels": self.channels, "bits": self.bits}
        return body | ({"granule": self.granule} if self.format.startswith("ogg-") else {})

    @classmethod
    def of(cls, line: dict[str, Any]) -> Form:
        """From a line of the manifest. Raises KeyError, ValueError or TypeError for what is no such line."""
        rate, channels, bits = (int(line[key]) for key in ("rate", "channels", "bits"))
        return cls(str(line["format"]), rate, channels, bits, int(line.get("granule", 0)))


class SegmentFile(Protocol):
    """A file that grows. Everything raises OSError; after one, only `abandon` may be called."""

    def write(self, data: bytes) -> None:
        """Append whole samples (of a stream: whole frames or pages)."""

    def sync(self) -> None:
        """Bring to the disk what a power cut must not take, with a header that tells the length so far."""

    def close(self) -> None:
        """Finish the file: its header is true from here on."""

    def abandon(self) -> None:
        """Let go of the file as it is; never raises."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file really holds: whole samples, and the bytes up to the end of the last one."""

    samples: int
    end: int


def write_all(fd: int, data: bytes, path: Path) -> None:
    """Like os.write, all of it: a full disk takes a part and says nothing."""
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if not written:
            raise OSError(f"nothing more can be written to {path}")
        view = view[written:]
