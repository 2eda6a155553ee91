"""Finds the delay from the far end to its echo: a running generalized cross-correlation.

Knapp and Carter, "The generalized correlation method for estimation of time delay" (1976), with the smoothed
coherence transform: the cross-spectrum over the root of both power spectra. The correlation is partitioned
into blocks as in overlap-save convolution, so the work is a few short FFTs each 80 ms, and it forgets
exponentially, so that a jump shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pinna.frame import Samples

HOP_FRAMES: Final = 4
_BANDWIDTH: Final = 4000.0  # Hz: enough for speech, and half the work
_LOWEST: Final = 150.0  # Hz: below are hum and handling noise

_YOUNG_HOPS: Final = 8
"""So long the far end's onset, correlated with itself, may peak where two parts of the correlation meet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the correlation says.

    `samples`: the delay. `sharpness`: its peak over the RMS of the whole correlation, about 4 for noise.
    `rival`: the strength around the delay that was expected, as a part of the peak.
    """

    samples: float
    sharpness: float
    rival: float


class DelayFinder:
    """Far and near blocks of one frame go in (`push`); each HOP_FRAMES frames a Finding may come out."""

    def __init__(self, frame: int, rate: int, longest_ms: float, forget: float = 0.9) -> None:
        self._hop = frame * HOP_FRAMES
        self._far = np.zeros(2 * self._hop)
        self._near = np.zeros(2 * self._hop)
        self._filled = 0
        self._decimation = max(1, int(rate / (2 * _BANDWIDTH)))
        bins = self._hop // self._decimation + 1
        self._band = np.zeros(bins)
        bin_hz = rate / (2 * self._hop)
        self._band[int(_LOWEST / bin_hz) : int(0.95 * _BANDWIDTH / bin_hz)] = 1.0
        self._parts = int(np.ceil(longest_ms * rate / 1000 / self._hop))
        self._past = np.zeros((self._parts, bins), np.complex128)
        self._powers = np.zeros((self._parts, bins))
        self._forget = forget
        self._cross = np.zeros((self._parts, bins), np.complex128)
        self._far_power = np.zeros(bins)
        self._near_power = np.zeros(bins)
        self.heard = 0  # hops of far-end activity since `forget_all`

    def forget_all(self) -> None:
        """The delay has changed: what was correlated so far misleads. The far end's past stays valid."""
        self._cross[:] = 0
        self._far_power[:] = 0
        self._near_power[:] = 0
        self.heard = 0

    def push(self, near: Samples, far: Samples, *, active: bool) -> bool:
        """Take one frame; True when a hop was completed with the far end `active`: time to `find`."""
        at = self._filled * near.size
        self._far[self._hop + at : self._hop + at + far.size] = far
        self._near[self._hop + at : self._hop + at + near.size] = near
        self._filled += 1
        if self._filled < HOP_FRAMES:
            return False
        self._filled = 0
        bins = self._band.size
        self._past[1:] = self._past[:-1]
        self._past[0] = np.fft.rfft(self._far)[:bins] * self._band
        self._powers[1:] = self._powers[:-1]
        self._powers[0] = np.abs(self._past[0]) ** 2
        self._far[: self._hop] = self._far[self._hop :]
        if not active:
            return False
        spectrum = np.fft.rfft(self._near)[:bins] * self._band
        self._cross *= self._forget
        self._cross += spectrum * np.conj(self._past)
        self._far_power *= self._forget
        self._far_power += self._powers.mean(axis=0)
        self._near_power *= self._forget
        self._near_power += np.abs(spectrum) ** 2
        self.heard += 1
        return True

    def find(self, expected: float | None = None) -> Finding:
        """The best delay so far, and how it compares with the `expected` one."""
        weight = self._band / np.sqrt(self._far_power * self._near_power + 1.0)
        lags = np.fft.irfft(self._cross * weight, axis=1)[:, : self._hop // self._decimation].ravel()
        strength = np.abs(lags)
        if self.heard < _YOUNG_HOPS:
            part = self._hop // self._decimation
            for edge in (0, 1, part - 1):
                strength[edge::part] = 0.0
        peak = int(np.argmax(strength))
        floor = float(np.sqrt(lags @ lags / lags.size)) + 1e-30
        offset = 0.0
        if 0 < peak < strength.size - 1:
            before, here, after = (float(s) for s in strength[peak - 1 : peak + 2])
            offset = 0.5 * (before - after) / (before - 2 * here + after - 1e-30)
        rival = 0.0
        if expected is not None:
            at = round(expected / self._decimation)
            rival = float(strength[max(at - 2, 0) : at + 3].max(initial=0.0))
        top = float(strength[peak])
        return Finding((peak + offset) * self._decimation, top / floor, rival / (top + 1e-30))
