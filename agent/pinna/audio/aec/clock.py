"""Measures the drift between the loudspeaker's and the microphone's clock from how the echo path moves."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BEFORE, _AFTER = 0.002, 0.006  # seconds of the impulse response around its peak that are compared
_SIZE: Final = 256
_MEASUREMENT_SD: Final = 0.03  # samples: the scatter of one comparison once the filter has converged
_WANDER: Final = 0.002  # samples/s per root second: crystals wander with temperature, slowly
_FIRST_SD_PPM: Final = 60.0


class PathWatch:
    """Where the echo path's impulse response lies, in samples, against the response first seen."""

    def __init__(self, rate: int) -> None:
        self._before, self._after = int(_BEFORE * rate), int(_AFTER * rate)
        self._size = _SIZE * max(1, rate // 16_000)
        self.forget()

    def forget(self) -> None:
        """Another filter, or another alignment: begin again."""
        self._reference: NDArray[np.complex128] | None = None
        self._zero = 0.0
        self._seen = 0

    def where(self, taps: NDArray[np.int32]) -> float | None:
        """Position of `taps` against the reference; None when the response has no clear peak."""
        peak = int(np.argmax(np.abs(taps)))
        if taps[peak] == 0:
            return None
        low = max(0, peak - self._before)
        part = taps[low : peak + self._after].astype(np.float64)
        spectrum = np.fft.rfft(part, self._size)
        omega = 2 * np.pi * np.arange(spectrum.size) / self._size
        spectrum *= np.exp(-1j * omega * low)
        self._seen += 1
        if self._reference is None:
            self._reference = spectrum
            return 0.0
        cross = spectrum * np.conj(self._reference)
        coarse = int(np.argmax(lags := np.fft.irfft(cross)))
        if lags[coarse] <= 0:
            return None
        if coarse > self._size // 2:
            coarse -= self._size
        keep = slice(2, int(0.6 * spectrum.size))
        weight = np.abs(cross[keep])
        phase = np.angle(cross[keep] * np.exp(1j * omega[keep] * coarse))
        fine = -float(np.sum(weight * omega[keep] * phase) / np.sum(weight * omega[keep] ** 2))
        position = self._zero + coarse + fine
        if self._seen & (self._seen - 1) == 0:  # 2, 4, 8...: the better converged, the better a reference
            self._reference, self._zero = spectrum, position
        return position


class Drift:
    """A Kalman filter over (delay, its growth): delays in samples in, growth in samples per second out."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._growth = 0.0
        self._growth_var = (_FIRST_SD_PPM * 1e-6 * rate) ** 2
        self._delay: float | None = None
        self._cov = np.zeros((2, 2))
        self._strange = 0

    def jumped(self) -> None:
        """The delay slipped, the clocks did not: keep the growth, begin with the delay again."""
        if self._delay is not None:
            self._growth_var = float(self._cov[1, 1])
        self._delay = None

    def unsettle(self, samples: float) -> None:
        """The delays to come may be off by `samples` for a while."""
        self._cov[0, 0] += samples**2
        self._cov[1, 1] += samples**2 * 0.05

    def update(self, delay: float, seconds: float) -> None:
        """One measured `delay`, `seconds` after the last."""
        if self._delay is None:
            self._delay = delay
            self._cov = np.diag([_MEASUREMENT_SD**2, self._growth_var])
            return
        self._delay += self._growth * seconds
        a, b, c = self._cov[0, 0], self._cov[0, 1], self._cov[1, 1]
        a, b, c = a + 2 * b * seconds + c * seconds**2, b + c * seconds, c + _WANDER**2 * seconds
        innovation = delay - self._delay
        total = a + _MEASUREMENT_SD**2
        if innovation**2 > 25 * total:
            self._strange += 1
            if self._strange < 3:
                self._cov = np.array([[a, b], [b, c]])
                return
            self.jumped()
            self._strange = 0
            self._delay = delay
            self._cov = np.diag([_MEASUREMENT_SD**2, self._growth_var])
            return
        self._strange = 0
        k0, k1 = a / total, b / total
        self._delay += k0 * innovation
        self._growth += k1 * innovation
        self._cov = np.array([[a * (1 - k0), b * (1 - k0)], [b * (1 - k0), c - k1 * b]])

    @property
    def growth(self) -> float:
        """Samples per second by which the delay grows."""
        return self._growth

    @property
    def uncertainty_ppm(self) -> float:
        var = self._growth_var if self._delay is None else float(self._cov[1, 1])
        return float(np.sqrt(var)) / self._rate * 1e6
