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
_STEPS: Final = 256  # fractions tabulated; a straight line between two is exact to 94 dB
_STILL: Final = 0.004  # samples a block: under it one interpolator does, with an error below -65 dB at 1 kHz


def _table() -> NDArray[np.float64]:
    """Row i: a Kaiser-windowed sinc that reads i / _STEPS after its middle, in np.convolve's order."""
    offsets = np.arange(-HALF_TAPS + 1, HALF_TAPS + 1, dtype=np.float64)
    distance = np.arange(-1, _STEPS + 3)[:, None] / _STEPS - offsets
    inside = np.maximum(0.0, 1.0 - (distance / HALF_TAPS) ** 2)
    taps: NDArray[np.float64] = np.sinc(distance) * np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA)
    return np.ascontiguousarray(taps[:, ::-1])


_TAPS: Final = _table()


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
    at = min(max(fraction * _STEPS + 1, 0.0), _STEPS + 2.0)  # drift may carry it just outside 0 to 1
    row = int(at)
    below: NDArray[np.float64] = _TAPS[row]
    taps: NDArray[np.float64] = below + (at - row) * (_TAPS[row + 1] - below)
    return taps


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
        if abs(last - first) < _STILL:
            first = last = (first + last) / 2
        taps = _taps(whole - first)
        out = np.convolve(source, taps, "valid")
        if last != first:
            fade = np.arange(count) / count
            out += fade * np.convolve(source, _taps(whole - last) - taps, "valid")
        np.rint(out, out=out)
        np.maximum(out, -32768, out=out)
        np.minimum(out, 32767, out=out)
        return out.astype(np.int16)
