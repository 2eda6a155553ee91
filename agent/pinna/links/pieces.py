"""The microphone on its way to a voice service: frames of 20 ms come, pieces of 40 ms at its rate go."""

from __future__ import annotations

from typing import Final

import numpy as np

from pinna.flow.resample import Resampler
from pinna.frame import FRAME_MS, SAMPLE_RATE, Samples

PIECE_MS: Final = 40


class Pieces:
    """One stream. Raises ConfigError without soxr.

    What the resampler's filter holds back goes ahead as silence, once: from then on a piece is whole with its
    second frame, and not with the one after it.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = Resampler(SAMPLE_RATE, rate, steady=True)
        self._frame = rate * FRAME_MS // 1000
        self._whole = rate * PIECE_MS // 1000
        self._waiting: Samples | None = None

    def put(self, frame: Samples) -> Samples | None:
        """The piece, shape (rate * 0.04,), that this frame, shape (960,), has completed, if it has."""
        out = self._resampler.process(frame)
        before = self._waiting if self._waiting is not None else np.zeros(self._frame - len(out), np.int16)
        sound = np.concatenate([before, out])
        if len(sound) < self._whole:
            self._waiting = sound
            return None
        self._waiting = sound[self._whole :]
        return sound[: self._whole]
