"""Samples against the clock: what was lost though nobody said so, or nobody said how much.

USB controllers drop whole milliseconds that ALSA never hears of (raspberrypi/linux#5188), and a host that
stood still may swallow more. A chunk can only arrive late, never early, so the least lateness of some seconds
is free of our own delays; it creeps with the card's crystal, and leaps when samples are missing.

Of an overrun arecord tells how long ago ALSA's trigger time stamp is. That is not what was lost: of a card it
leaves out the ring that was thrown away, of dsnoop everything before it was noticed (alsa-lib, pcm_dsnoop.c),
and on sound servers' plugins it is the stream's start (pcm_ioplug.c). So overruns are measured here, too.
"""

from __future__ import annotations

from typing import Final

from pinna.recorder.events import Chunk, Lost

WINDOW_SECONDS: Final = 15.0
LEAP_SECONDS: Final = 0.020
"""A crystal 200 ppm off, a bad one, creeps 3 ms in a window. Smaller losses show in the rate alone."""

SETTLE_SECONDS: Final = 1.0
"""After an overrun, until some chunk has come without delay; the computer is busy, that is why it overran."""


class Continuity:
    """Of one card, from when it was opened on. What it returns is to be delivered."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._start: float | None = None
        self._samples = 0
        self._least = float("inf")
        self._before: float | None = None
        self._window_ends = 0.0
        self._overrun: str | None = None
        self._held: list[Chunk] = []
        self._held_least = float("inf")

    def take(self, chunk: Chunk, samples: int) -> list[Chunk | Lost]:
        """The chunk, after what is missing before it; while an overrun is measured nothing, and then all."""
        self._samples += samples
        if self._start is None:
            self._start = chunk.at - self._samples / self._rate
            self._window_ends = chunk.at + WINDOW_SECONDS
        late = chunk.at - self._start - self._samples / self._rate
        if self._overrun is not None:
            self._held.append(chunk)
            self._held_least = min(self._held_least, late)
            return self.end() if chunk.at - self._held[0].at >= SETTLE_SECONDS else []
        missing = self._missing(late, chunk.at)
        return [*self._lost("unreported", missing, "the clock went on without samples"), chunk]

    def overrun(self, detail: str) -> list[Chunk | Lost]:
        """Samples were lost before what comes next."""
        told = self.end()
        self._overrun = detail
        return told

    def end(self) -> list[Chunk | Lost]:
        """What is still held back. Of an overrun after which nothing came, what follows tells the length."""
        detail, held = self._overrun, self._held
        if detail is None or not held:
            return []
        usual = min(self._least, float("inf") if self._before is None else self._before)
        late, self._held_least = self._held_least, float("inf")
        self._overrun, self._held = None, []
        missing = 0 if usual == float("inf") else max(0, round((late - usual) * self._rate))
        return [*self._lost("xrun", missing, detail), *held]

    def _lost(self, reason: str, missing: int, detail: str) -> list[Lost]:
        self._samples += missing
        return [Lost(reason, missing, detail)] if missing else []

    def _missing(self, late: float, at: float) -> int:
        """Samples that nobody reported; told once a window."""
        self._least = min(self._least, late)
        if at < self._window_ends:
            return 0
        before, least = self._before, self._least
        self._before, self._least, self._window_ends = least, float("inf"), at + WINDOW_SECONDS
        if before is None or least - before <= LEAP_SECONDS:
            return 0
        self._before = before
        return round((least - before) * self._rate)
