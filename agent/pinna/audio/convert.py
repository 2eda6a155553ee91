"""Between a card's own rate and ours."""

from __future__ import annotations

from pinna.audio.speexdsp import Resampler
from pinna.frame import Samples


class Converter:
    """Blocks of 20 ms at `from_rate` Hz become blocks of 20 ms at `to_rate` Hz, mono, int16."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._resampler = Resampler(from_rate, to_rate) if from_rate != to_rate else None

    def convert(self, block: Samples) -> Samples:
        """The block itself when the rates are equal."""
        return block if self._resampler is None else self._resampler.process(block)

    def close(self) -> None:
        if self._resampler is not None:
            self._resampler.close()
