"""Samples against the clock: what was lost though nobody said so.

USB controllers drop whole milliseconds that ALSA never hears of (raspberrypi/linux#5188), and a host that
stood still may swallow more. A chunk can only arrive late, never early, so the least lateness of some seconds
is free of our own delays; it creeps with the card's crystal, and leaps when samples are missing.
"""

from __future__ import annotations

from typing import Final

WINDOW_SECONDS: Final = 15.0
LEAP_SECONDS: Final = 0.020
"""A crystal 200 ppm off, a bad one, creeps 3 ms in a window. Smaller losses show in the rate alone."""


class Continuity:
    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.restart()

    def restart(self) -> None:
        """The stream begins anew: nothing before it counts."""
        self._start: float | None = None
        self._samples = 0
        self._least = float("inf")
        self._before: float | None = None
        self._window_ends = 0.0

    def skip(self, samples: int) -> None:
        """So many are known to be missing."""
        self._samples += samples

    def check(self, samples: int, at: float) -> int:
        """`samples` more, complete at `at` (monotonic). How many were lost unnoticed, told once a window."""
        self._samples += samples
        if self._start is None:
            self._start = at - self._samples / self._rate
            self._window_ends = at + WINDOW_SECONDS
        self._least = min(self._least, at - self._start - self._samples / self._rate)
        if at < self._window_ends:
            return 0
        before, least = self._before, self._least
        self._before, self._least, self._window_ends = least, float("inf"), at + WINDOW_SECONDS
        if before is None or least - before <= LEAP_SECONDS:
            return 0
        missing = round((least - before) * self._rate)
        self._samples += missing
        self._before = before
        return missing
