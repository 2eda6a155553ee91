"""Signals that say of each sample which one it is."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from pinna.recorder.formats import Form
from pinna.recorder.track import Plan, Track

PERIOD = 32_749  # prime, and so nothing that a block length divides


def ramp(first: int, count: int, form: Form) -> bytes:
    """Samples first … first + count as if captured: all channels alike, 0 … PERIOD - 1 and again."""
    values = np.arange(first, first + count, dtype=np.int64) % PERIOD
    wide = np.repeat(values, form.channels)
    width = form.raw_bytes // form.channels
    if width == 2:
        return wide.astype("<i2").tobytes()
    if width == 4:
        return (wide << 16).astype("<i4").tobytes()
    return (wide << 8).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def values(path: Path) -> NDArray[np.int64]:
    """The first channel of a file, in units of the ramp; as another program reads it, by its header."""
    data, _ = soundfile.read(path, dtype="int32", always_2d=True)
    return data[:, 0].astype(np.int64) >> 16


class ManualTime:
    """A clock of the recorder's kind that a test moves. The wall clock may be set, as an operator may."""

    def __init__(self, wall: float, mono: float = 1000.0) -> None:
        self.now = mono
        self.offset = wall - mono

    def wall(self) -> float:
        return self.now + self.offset

    def mono(self) -> float:
        return self.now


class FastTime:
    """The real clocks, so many times as fast: an hour's rotations in a second."""

    def __init__(self, times: float) -> None:
        self.times = times

    def mono(self) -> float:
        return time.monotonic() * self.times

    def wall(self) -> float:
        return 1.7e9 + self.mono()


def plan(folder: Path, form: Form, split_minutes: int = 1) -> Plan:
    return Plan("mic", folder, form, split_minutes, None)


def files(track_folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(
        path for path in track_folder.glob("????-??-??/mic_*") if path.suffix not in (".pin", ".peaks")
    )


__all__ = ["PERIOD", "FastTime", "ManualTime", "Track", "files", "plan", "ramp", "values"]
