"""WAV files that may outgrow 4 GB: RF64 (EBU Tech 3306), with a place for its `ds64` kept from the start."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from pinna.recorder.formats.form import Content, Form, write_all

_DS64: Final = struct.Struct("<4sIQQQI")  # id, size, riff size, data size, samples, length of an empty table
_LIMIT: Final = 0xFFFFFFFF
_PCM_GUID: Final = bytes.fromhex("0100000000001000800000aa00389b71")  # KSDATAFORMAT_SUBTYPE_PCM


def header(form: Form, samples: int) -> bytes:
    """Everything before the first sample; its length depends on the form alone.

    More than two channels or 16 bits need WAVE_FORMAT_EXTENSIBLE (Microsoft, "Multiple channel audio data").
    """
    block = form.raw_bytes
    plain = form.channels <= 2 and form.bits <= 16
    fmt = struct.pack(
        "<HHIIHH",
        1 if plain else 0xFFFE,
        form.channels,
        form.rate,
        form.rate * block,
        block,
        block // form.channels * 8,
    )
    if not plain:
        fmt += struct.pack("<HHI", 22, form.bits, 0) + _PCM_GUID
    length = 12 + _DS64.size + 8 + len(fmt) + 8
    data = samples * block
    riff = length - 8 + data + data % 2
    large = riff > _LIMIT
    ds64 = _DS64.pack(b"ds64", 28, riff, data, samples, 0) if large else _DS64.pack(b"JUNK", 28, 0, 0, 0, 0)
    return b"".join(
        (
            struct.pack("<4sI4s", b"RF64" if large else b"RIFF", _LIMIT if large else riff, b"WAVE"),
            ds64,
            struct.pack("<4sI", b"fmt ", len(fmt)),
            fmt,
            struct.pack("<4sI", b"data", _LIMIT if large else data),
        )
    )


class WavFile:
    """See SegmentFile. What was written is in the file at once; the header follows with each `sync`."""

    def __init__(self, path: Path, form: Form) -> None:
        self._path = path
        self._form = form
        self._bytes = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            write_all(self._fd, header(form, 0), path)
        except OSError:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        write_all(self._fd, data, self._path)
        self._bytes += len(data)

    def sync(self) -> None:
        os.pwrite(self._fd, header(self._form, self._bytes // self._form.raw_bytes), 0)
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._bytes % 2:  # RIFF chunks begin at even places
            write_all(self._fd, b"\0", self._path)
        self.sync()
        self.abandon()

    def abandon(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def content(path: Path, form: Form) -> Content:
    """By the length of the file, whatever its header says."""
    begin = len(header(form, 0))
    samples = max(0, path.stat().st_size - begin) // form.raw_bytes
    return Content(samples, begin + samples * form.raw_bytes)


def mend(path: Path, form: Form, found: Content) -> None:
    """Make the header tell the truth, and end the file with its last whole sample."""
    with path.open("r+b") as file:
        file.truncate(found.end)
        file.write(header(form, found.samples))
        if (found.samples * form.raw_bytes) % 2:
            file.seek(found.end)
            file.write(b"\0")
        file.flush()
        os.fsync(file.fileno())
