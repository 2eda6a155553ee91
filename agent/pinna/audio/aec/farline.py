"""The far end's recent past, readable at any fractional position and pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinna.frame import Samples

HALF_TAPS: Final = 20
"""The interpolator reaches this many samples to either side: a delay can be no shorter."""

_BETA: Final = 8.0  # Kaiser window: 80 dB of stop band; the pass band ends at about 0.87 of Nyquist
_OFFSETS: Final = np.arange(-HALF_TAPS + 1, HALF_TAPS + 1, dtype=np.float64)
_I0_BETA: Final = np.i0(_BETA)


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay in samples that grows by `slope` samples a sample: `at` says how long it is at a position."""

    samples: float
    slope: float = 0.0
    anchor: int = 0

    def at(self, position: int) -> float:
        return self.samples + self.slope * (position - self.anchor)

    def turned(self, slope: float, position: int) -> Delay:
        """The same delay at `position`, with another slope from there on."""
        return Delay(self.at(position), slope, position)


def _taps(fraction: float) -> NDArray[np.float64]:
    """A Kaiser-windowed sinc that reads `fraction` samples (0 to 1, or just outside) after sample 0, reversed."""
    distance = fraction - _OFFSETS
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1.0 - (distance / HALF_TAPS) ** 2))) / _I0_BETA
    taps: NDArray[np.float64] = np.sinc(distance) * window
    return taps[::-1]


class FarLine:
    """Keeps the last `length` samples. Positions count from the first sample ever pushed."""

    def __init__(self, length: int) -> None:
        self._buffer = np.zeros(length, np.float64)
        self.end = 0

    def push(self, block: Samples) -> None:
        buffer, count = self._buffer, block.size
        buffer[:-count] = buffer[count:]
        buffer[-count:] = block
        self.end += count

    def read(self, position: int, count: int, delay: Delay) -> Samples:
        """`count` int16 samples for the positions from `position` on, each `delay` earlier.

        A delay under HALF_TAPS is read as HALF_TAPS; what is no longer (or was never) kept is silence. Within
        a block the delay moves by parts of a sample, so two interpolators, for the first and the last
        sample, are cross-faded: exact to the second order in the movement.
        """
        first = max(delay.at(position), float(HALF_TAPS))
        last = max(delay.at(position + count), float(HALF_TAPS))
        whole = int(np.ceil(first))
        start = position - whole - HALF_TAPS + 1 - (self.end - self._buffer.size)
        size = count + 2 * HALF_TAPS - 1
        source = self._buffer[max(start, 0) : max(start + size, 0)]
        if source.size < size:
            source = np.concatenate([np.zeros(size - source.size), source])
        out = np.convolve(source, _taps(whole - first), "valid")
        if last != first:
            fade = np.arange(count) / count
            out += fade * (np.convolve(source, _taps(whole - last), "valid") - out)
        return np.clip(np.rint(out), -32768, 32767).astype(np.int16)
