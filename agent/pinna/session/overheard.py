"""The loudspeaker, overheard: when the hub last said something."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from pinna.frame import Samples

AUDIBLE: Final = 200
"""A peak above this (−44 dBFS) is speech, and not the noise of a silent line."""


class Plays(Protocol):
    def play(self, samples: Samples) -> bool: ...

    @property
    def queued_ms(self) -> int: ...


class Overheard:
    """Passes everything on to `speaker`. Event loop only."""

    def __init__(self, speaker: Plays, clock: Callable[[], float] = time.monotonic) -> None:
        self.spoke_at = float("-inf")
        self._speaker = speaker
        self._clock = clock

    def play(self, samples: Samples) -> bool:
        if samples.max() > AUDIBLE or samples.min() < -AUDIBLE:
            self.spoke_at = self._clock()
        return self._speaker.play(samples)

    @property
    def queued_ms(self) -> int:
        return self._speaker.queued_ms
