"""What time it is, how far it can be believed, and when a file is to be cut."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Final

_TIMEX_BYTES: Final = 208  # struct timex of 64-bit Linux
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_MAXERROR_AT: Final = 24


class Clock:
    """The machine's two clocks, in seconds. Tests bring one of their own."""

    def wall(self) -> float:
        """Since the epoch; steps when somebody sets it."""
        return time.time()

    def mono(self) -> float:
        """Since the machine booted; only ever goes forward."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Quality:
    """Whether something (NTP, GPS) keeps the wall clock right, and to how many milliseconds at worst."""

    state: str  # synchronised, unsynchronised, unknown
    error_ms: float | None = None


def quality() -> Quality:
    """As the kernel knows it; it asks without setting anything, which needs no rights (adjtimex(2))."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if answer < 0:
        return Quality("unknown")
    if answer == _TIME_ERROR:
        return Quality("unsynchronised")
    (error_us,) = struct.unpack_from("<q", buffer, _MAXERROR_AT)
    return Quality("synchronised", error_us / 1000)


@cache
def boot_id() -> str:
    """Monotonic times of one boot can be compared, those of two cannot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"pid {os.getpid()}"


def local(at: float, zone: tzinfo | None) -> datetime:
    """`zone` None: the machine's own, as it is set now."""
    return datetime.fromtimestamp(at, UTC).astimezone(zone)


def day(at: float, zone: tzinfo | None) -> str:
    return local(at, zone).strftime("%Y-%m-%d")


def stamp(at: float, zone: tzinfo | None) -> str:
    """For a file name: local time with its offset, so no two moments share one: 2026-11-21T10-00-00+0100"""
    return local(at, zone).strftime("%Y-%m-%dT%H-%M-%S%z")


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def next_cut(now: float, split_minutes: int, zone: tzinfo | None) -> float:
    """The next moment at which the local time of day is a multiple of `split_minutes`.

    Counted in minutes that pass, so the hour that daylight saving repeats is cut twice, and midnights that it
    skips cost one long file. Time zones have been whole minutes from UTC since 1972.
    """
    minute = int(now // 60) * 60
    for _ in range(3 * max(split_minutes, 60)):
        minute += 60
        then = local(minute, zone)
        if (then.hour * 60 + then.minute) % split_minutes == 0:
            return float(minute)
    return float(minute)
