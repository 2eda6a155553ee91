"""Between a card's own rate and ours."""

from __future__ import annotations

import numpy as np

from pinna.audio.speexdsp import Resampler
from pinna.frame import Samples


class Converter:
    """A stream of blocks at `from_rate` Hz becomes blocks of `block` samples at `to_rate` Hz, mono, int16."""

    def __init__(self, from_rate: int, to_rate: int, block: int) -> None:
        self._resampler = Resampler(from_rate, to_rate) if from_rate != to_rate else None
        self._block = block
        self._rest: Samples = np.zeros(0, np.int16)

    def feed(self, samples: Samples) -> list[Samples]:
        """The whole blocks that are complete now: mostly one, now and then none or two."""
        if self._resampler is None:
            return [samples]
        self._rest = np.concatenate([self._rest, self._resampler.process(samples)])
        whole = len(self._rest) // self._block
        blocks = [self._rest[k * self._block : (k + 1) * self._block] for k in range(whole)]
        self._rest = self._rest[whole * self._block :]
        return blocks

    def close(self) -> None:
        if self._resampler is not None:
            self._resampler.close()
