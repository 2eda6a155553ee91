"""Files of streams, which are kept bit by bit as they came."""

from __future__ import annotations

import os
from pathlib import Path

from pinna.recorder.formats.form import Content, write_all


def mend(path: Path, found: Content) -> None:
    """End the file with its last whole frame or page."""
    with path.open("r+b") as file:
        file.truncate(found.end)
        os.fsync(file.fileno())


class RawFile:
    """See SegmentFile. `head`: what each needs to be played alone (an Ogg stream's header pages)."""

    def __init__(self, path: Path, head: bytes) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            self.write(head)
        except OSError:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        write_all(self._fd, data, self._path)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        self.sync()
        self.abandon()

    def abandon(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
