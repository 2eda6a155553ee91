"""Files that are still being written, seen as if they had just been finished.

Their headers tell no length, or an old one, and they grow while they are read. A view has a true header
and an end: players can seek in it, and what is asked of it in pieces fits together.
"""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinna.recorder import formats
from pinna.recorder.formats import Form

LIVE_SECONDS: Final = 30.0
"""Files are written to every second, by a recorder that a busy disk may hold up for so long."""

_SAMPLED: Final = ("wav", "flac", "opus")


@dataclass(frozen=True, slots=True)
class View:
    """`head` in place of the first bytes of the file, which ends after `size`."""

    path: Path
    head: bytes
    size: int

    def read(self, begin: int, count: int) -> bytes:
        """Raises OSError; fewer bytes at the end alone."""
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), max(0, min(count, self.size - begin)), begin)
        head = self.head[begin : begin + len(data)]
        return head + data[len(head) :]


@dataclass(frozen=True, slots=True)
class Extent:
    """What a growing file holds now; `samples` None where only its end will tell (streams)."""

    bytes: int
    samples: int | None
    live: bool


def measure(path: Path, form: Form) -> Extent:
    """Raises OSError."""
    known = path.stat()
    live = abs(time.time() - known.st_mtime) < LIVE_SECONDS
    if form.format not in _SAMPLED:
        return Extent(known.st_size, None, live)
    found = formats.content(path, form)
    return Extent(found.end, found.samples, live)


def view(path: Path, form: Form, size: int, samples: int | None) -> View:
    """The file as it was when it held so much. Raises OSError."""
    return View(path, b"" if samples is None else formats.head(path, form, samples), size)


class ViewFile(io.RawIOBase):
    """A view as a file, for libsndfile."""

    def __init__(self, seen: View) -> None:
        self._view = seen
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._view.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # (typeshed: any Buffer)
        data = self._view.read(self._place, len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
