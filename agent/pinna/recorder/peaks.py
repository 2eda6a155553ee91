"""Waveform and loudness of a file: computed once, while it is recorded, and kept beside it as NAME.peaks.

A header (rate, samples per entry), then for each tenth of a second the lowest and the highest sample and the
root mean square, over all channels, as 16-bit numbers. An hour is 216 kB, and nobody has to decode the hour.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from pinna.recorder.decoding import open_sound
from pinna.recorder.disk import peaks_of
from pinna.recorder.formats import Form, SegmentFile

PER_SECOND: Final = 10
_HEAD: Final = struct.Struct("<8sII")
_MAGIC: Final = b"PEAKS 1\n"
_ENTRY: Final = 6
_BLOCK_ENTRIES: Final = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Peaks:
    """`entries`: int16, one row of (lowest, highest, RMS) for each `samples_each` samples."""

    rate: int
    samples_each: int
    entries: NDArray[np.int16]

    @property
    def seconds_each(self) -> float:
        return self.samples_each / self.rate


def read(segment: Path) -> Peaks | None:
    """None where there are none, or none that can be understood. Raises OSError."""
    try:
        data = peaks_of(segment).read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        return None
    _, rate, samples_each = _HEAD.unpack_from(data)
    if not rate or not samples_each:
        return None
    whole = len(data) - (len(data) - _HEAD.size) % _ENTRY
    entries = np.frombuffer(data[_HEAD.size : whole], "<i2").reshape(-1, 3)
    return Peaks(rate, samples_each, entries)


def upper_16(data: bytes, form: Form) -> NDArray[np.int16]:
    """The upper 16 bits of samples as captured."""
    width = form.raw_bytes // form.channels
    if width == 3:
        return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, 3)[:, 1:]).view("<i2")[:, 0]
    return np.frombuffer(data, "<i2")[width // 2 - 1 :: width // 2]


class Meter:
    """Samples in, entries out."""

    def __init__(self, rate: int, channels: int) -> None:
        self.head = _HEAD.pack(_MAGIC, rate, self.samples_each(rate))
        self._each = self.samples_each(rate) * channels
        self._rest: NDArray[np.int16] = np.empty(0, np.int16)

    @staticmethod
    def samples_each(rate: int) -> int:
        return max(1, rate // PER_SECOND)

    def add(self, samples: NDArray[np.int16]) -> bytes:
        """Interleaved samples of all channels; the entries that are whole now."""
        samples = np.concatenate((self._rest, samples)) if self._rest.size else samples
        whole = samples.size - samples.size % self._each
        self._rest = samples[whole:].copy()
        return _entries(samples[:whole].reshape(-1, self._each)) if whole else b""

    def end(self) -> bytes:
        """The entry of what is left, if anything is."""
        return _entries(self._rest.reshape(1, -1)) if self._rest.size else b""


def _entries(rows: NDArray[np.int16]) -> bytes:
    wide = rows.astype(np.float32)
    rms = np.sqrt(np.einsum("ij,ij->i", wide, wide) / rows.shape[1])
    found = np.stack((rows.min(axis=1), rows.max(axis=1), np.minimum(np.rint(rms), 32_767)), axis=1)
    return found.astype("<i2").tobytes()


class DrawnFile:
    """A SegmentFile, its peaks written along. Peaks that cannot be written cost nothing but themselves."""

    def __init__(self, file: SegmentFile, path: Path, form: Form) -> None:
        self._file = file
        self._form = form
        self._meter = Meter(form.rate, form.channels)
        self._ready = self._meter.head
        self._fd = -1
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(peaks_of(path), flags, 0o640)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._ready += self._meter.add(upper_16(data, self._form))

    def sync(self) -> None:
        self._file.sync()
        self._bring()

    def close(self) -> None:
        self._file.close()
        self._ready += self._meter.end()
        self._bring()
        self._let_go()

    def abandon(self) -> None:
        self._file.abandon()
        self._let_go()

    def _bring(self) -> None:
        """Into the file; left to the kernel to bring to the disk."""
        ready, self._ready = self._ready, b""
        if self._fd < 0 or not ready:
            return
        try:
            if os.write(self._fd, ready) == len(ready):
                return
        except OSError as error:
            log.warning("recorder.peaks_not_written", cause=error.strerror)
        self._let_go()  # a hole would shift all that follows; `complete` draws it anew

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def complete(segment: Path, give_up: Callable[[], bool] = lambda: False) -> bool:
    """Draw a finished file that has no peaks or too few: of a stream, or cut off. Whether it has them now.

    Decodes all of it. Raises OSError.
    """
    try:
        with open_sound(segment) as file:
            found = read(segment)
            if found is not None and len(found.entries) >= file.frames // found.samples_each:
                return True
            return _draw(segment, file, give_up)
    except (ValueError, RuntimeError):  # nobody knows it; or libsndfile, in the middle of it
        return False


def _draw(segment: Path, file: Any, give_up: Callable[[], bool]) -> bool:
    meter = Meter(file.samplerate, file.channels)
    size = meter.samples_each(file.samplerate) * _BLOCK_ENTRIES
    final = peaks_of(segment)
    temporary = final.with_name(final.name + ".new")
    try:
        with temporary.open("wb") as out:
            out.write(meter.head)
            while (block := file.read(size, dtype="int16", always_2d=True)).size:
                if give_up():
                    return False
                out.write(meter.add(block.reshape(-1)))
            out.write(meter.end())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    if not segment.exists():  # retention was quicker
        final.unlink(missing_ok=True)
    return True


if __name__ == "__main__":
    sys.exit(not complete(Path(sys.argv[1])))
