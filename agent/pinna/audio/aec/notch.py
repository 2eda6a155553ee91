"""Gives the talker the low end that Speex's canceller is about to take."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinna.frame import Samples

_KEPT_FROM_HZ: Final = 6.0


class NotchUndo:
    """The inverse of mdf.c's DC notch, from some Hz up, and no DC; for the canceller's near end.

    The notch, H(z) = r (1 - 1/z)^2 / (1 - 2 r/z + (r^2 + 0.7 (1-r)^2)/z^2), has its corner at 46 Hz (61 Hz at
    48 kHz) and turns the phase of a low voice's fundamental by half a right angle. Here its zeros at DC
    become a double pole just inside the unit circle, with one more and a zero against a microphone's offset.
    A pole p is a running sum: y[n] = p^n sum(x[k] p^-k). Blocks have one length.
    """

    def __init__(self, block: int, rate: int) -> None:
        radius = 0.982 if rate < 24_000 else 0.992  # as mdf.c chooses
        poles = np.array([1.0, -2 * radius, radius**2 + 0.7 * (1 - radius) ** 2]) / radius
        self._fir = np.convolve(poles, [1.0, -1.0])
        pole = 1 - 2 * np.pi * _KEPT_FROM_HZ / rate
        self._falls = pole ** np.arange(1, block + 1)
        self._rises = pole ** -np.arange(1.0, block + 1)
        self._past = np.zeros(3)
        self._sums = [0.0, 0.0, 0.0]

    def run(self, block: Samples) -> Samples:
        """A new array of the same shape."""
        wide = np.concatenate([self._past, block])
        self._past = wide[-3:]
        out: NDArray[np.float64] = np.convolve(wide, self._fir, "valid")
        for stage in range(3):
            out *= self._rises
            np.cumsum(out, out=out)
            out += self._sums[stage]
            out *= self._falls
            self._sums[stage] = float(out[-1])
        np.rint(out, out=out)
        np.maximum(out, -32768, out=out)
        np.minimum(out, 32767, out=out)
        return out.astype(np.int16)
