"""What waits to be heard: between the link on the event loop and the PortAudio callback."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pinna.audio.convert import Converter
from pinna.flow.ring import Ring
from pinna.frame import FRAME_MS, SAMPLE_RATE, Samples

CAPACITY_FRAMES = 10
"""200 ms. More would turn a burst into delay; the jitter buffer is the place that waits."""

SLACK_FRAMES = 2
"""What a late event loop may need in hand. Depth beyond it that was not used in WINDOW frames is given up."""

WINDOW = 50
PATIENCE = 25
"""Frames to wait for a quiet one before one that can be heard goes."""

QUIET_RMS = 300.0
"""A frame below this (−41 dBFS) can go without being missed."""


@dataclass(slots=True)
class PlaybackStats:
    queued: int = 0  # frames taken from the link
    dropped: int = 0  # the queue was full
    trimmed: int = 0  # given up to win back latency


class PlaybackQueue:
    """Bounded, and no deeper than the event loop's lateness has lately required. `play` is the event loop's.

    The link delivers one frame per captured frame and the callback plays one per captured frame, so the depth
    is constant but for a late event loop: each underrun it causes leaves one frame more in hand. Depth that
    stayed unused for a second is trimmed again, in quiet frames as far as there are some.
    """

    def __init__(self) -> None:
        self.stats = PlaybackStats()
        self._path = _path(SAMPLE_RATE)
        self._least = CAPACITY_FRAMES  # the smallest depth of the present window
        self._seen = 0
        self._surplus = 0  # frames to give up
        self._waited = 0  # frames since the last one was given up

    def attach(self, rate: int) -> Ring:
        """Start afresh for a stream of `rate` Hz: the ring that its callback plays from. Any thread."""
        self._path = _path(rate)  # one assignment: `play` sees the old pair or the new one, never a mixture
        return self._path[1]

    @property
    def queued_ms(self) -> int:
        return len(self._path[1]) * FRAME_MS

    def play(self, samples: Samples) -> bool:
        if self._trims(samples):
            self.stats.trimmed += 1
            return True
        converter, ring = self._path
        kept = ring.put(converter.convert(samples))
        self.stats.queued += kept
        self.stats.dropped += not kept
        return kept

    def _trims(self, samples: Samples) -> bool:
        """Whether this frame is to be given up."""
        self._least = min(self._least, len(self._path[1]))
        self._seen += 1
        if self._seen == WINDOW:
            self._surplus = max(0, self._least - SLACK_FRAMES)
            self._least, self._seen = CAPACITY_FRAMES, 0
        if not self._surplus:
            return False
        self._waited += 1
        quiet = float(np.sqrt(np.mean(np.square(samples, dtype=np.float32)))) < QUIET_RMS
        if not quiet and self._waited < PATIENCE:
            return False
        self._surplus -= 1
        self._waited = 0
        self._least -= 1
        return True


def _path(rate: int) -> tuple[Converter, Ring]:
    block = rate * FRAME_MS // 1000
    return Converter(SAMPLE_RATE, rate), Ring(CAPACITY_FRAMES, block=block)
