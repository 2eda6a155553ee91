"""What waits to be heard: between the link on the event loop and the PortAudio callback."""

from __future__ import annotations

from dataclasses import dataclass

from pinna.audio.convert import Converter
from pinna.flow.ring import Ring
from pinna.flow.surplus import Surplus
from pinna.frame import FRAME_MS, SAMPLE_RATE, Samples

CAPACITY_FRAMES = 10
"""200 ms. More would turn a burst into delay; the jitter buffer is the place that waits."""


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
        self._surplus = Surplus()

    def attach(self, rate: int) -> Ring:
        """Start afresh for a stream of `rate` Hz: the ring that its callback plays from. Any thread."""
        self._path = _path(rate)  # one assignment: `play` sees the old pair or the new one, never a mixture
        return self._path[1]

    @property
    def queued_ms(self) -> int:
        return len(self._path[1]) * FRAME_MS

    def play(self, samples: Samples) -> bool:
        converter, ring = self._path
        if self._surplus.has(samples, len(ring)):
            self.stats.trimmed += 1
            return True
        kept = ring.put(converter.convert(samples))
        self.stats.queued += kept
        self.stats.dropped += not kept
        return kept


def _path(rate: int) -> tuple[Converter, Ring]:
    block = rate * FRAME_MS // 1000
    return Converter(SAMPLE_RATE, rate), Ring(CAPACITY_FRAMES, block=block)
