"""Measures the drift between the loudspeaker's and the microphone's clock from how the echo path moves."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BEFORE, _AFTER = 0.002, 0.006  # seconds of the impulse response around its peak that are compared
_SIZE: Final = 256
_MEASUREMENT_SD: Final = 0.02  # samples: the scatter of one comparison while the path stands still
_LAG: Final = 0.7  # seconds: how far the adaptive filter is behind a path that moves...
_LAG_SD: Final = 0.35  # ...and how that scatters: it learns while there is speech
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
    """A Kalman filter over (delay, its growth, the adaptive filter's lag): samples, samples/s, samples.

    The delay is measured where the adaptive filter has it, which is behind the truth by about _LAG seconds of
    what growth is not yet made up for.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._state = np.zeros(3)
        self._cov = np.diag([0.0, (_FIRST_SD_PPM * 1e-6 * rate) ** 2, 0.0])
        self._lost = True
        self._strange = 0

    def jumped(self) -> None:
        """The delay slipped or a new filter sees it, the clocks did not change: keep the growth alone."""
        self._lost = True
        self._strange = 0

    def update(self, delay: float, seconds: float, undone: float) -> None:
        """One measured `delay`, `seconds` after the last, while `undone` samples/s were made up for."""
        moving = float(np.hypot(self._state[1] - undone, np.sqrt(self._cov[1, 1])))
        if self._lost:
            self._lost = False
            lag = _LAG * (self._state[1] - undone)
            self._state = np.array([delay + lag, self._state[1], lag])
            g = self._cov[1, 1]
            lag_var = (_LAG_SD * moving) ** 2 + _LAG**2 * g
            d = lag_var + _MEASUREMENT_SD**2
            self._cov = np.array(
                [[d, _LAG * g, lag_var], [_LAG * g, g, _LAG * g], [lag_var, _LAG * g, lag_var]]
            )
            return
        keeps = float(np.exp(-seconds / _LAG))
        catches = _LAG * (1 - keeps)
        step = np.array([[1.0, seconds, 0.0], [0.0, 1.0, 0.0], [0.0, catches, keeps]])
        self._state = step @ self._state - np.array([0.0, 0.0, catches * undone])
        spread = np.diag([1e-6, _WANDER**2 * seconds, (_LAG_SD * moving) ** 2 * (1 - keeps**2)])
        self._cov = step @ self._cov @ step.T + spread
        sees = np.array([1.0, 0.0, -1.0])
        innovation = delay - float(sees @ self._state)
        shared = self._cov @ sees
        total = float(sees @ shared) + _MEASUREMENT_SD**2
        if innovation**2 > 36 * total:
            self._strange += 1
            if self._strange >= 3:
                self.jumped()
            return
        self._strange = 0
        gain = shared / total
        self._state = self._state + gain * innovation
        self._cov = self._cov - np.outer(gain, shared)

    @property
    def growth(self) -> float:
        """Samples per second by which the delay grows."""
        return float(self._state[1])

    @property
    def uncertainty_ppm(self) -> float:
        return float(np.sqrt(self._cov[1, 1])) / self._rate * 1e6
