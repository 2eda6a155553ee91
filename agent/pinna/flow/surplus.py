"""Winning back latency: which frames a queue that has become deeper than it needs to be can do without."""

from __future__ import annotations

from typing import Final

import numpy as np

from pinna.frame import Samples

SLACK_FRAMES: Final = 2
"""What a late feeder may need in hand. Depth beyond it that was not used in WINDOW frames is given up."""

WINDOW: Final = 50
PATIENCE: Final = 25
"""Frames to wait for a quiet one before one that can be heard goes."""

QUIET_RMS: Final = 300.0
"""A frame below this (−41 dBFS) can go without being missed."""

PACED: Final = range(WINDOW * 4 // 5, WINDOW * 6 // 5 + 1)
"""So many frames that came while WINDOW went were sent in the time they take: no burst, and no end of one."""


class Surplus:
    """Of a queue that is fed at the pace at which it is drained, but for moments."""

    def __init__(self) -> None:
        self._least: int | None = None  # the smallest depth of the present window
        self._seen = 0
        self._came = 0  # when the window began
        self._surplus = 0  # frames to give up
        self._waited = 0  # frames since the last one was given up

    def has(self, samples: Samples, depth: int, came: int | None = None) -> bool:
        """Whether this frame can go, while `depth` others wait. To be asked of each frame, once.

        `came`: frames so far, of a feeder who may also send more in advance, which is no surplus.
        """
        self._least = depth if self._least is None else min(self._least, depth)
        self._seen += 1
        if self._seen == WINDOW:
            paced = came is None or came - self._came in PACED
            self._surplus = max(0, self._least - SLACK_FRAMES) if paced else 0
            self._least, self._seen, self._came = None, 0, came or 0
        if not self._surplus:
            return False
        self._waited += 1
        quiet = float(np.sqrt(np.mean(np.square(samples, dtype=np.float32)))) < QUIET_RMS
        if not quiet and self._waited < PATIENCE:
            return False
        self._surplus -= 1
        self._waited = 0
        if self._least is not None:
            self._least -= 1
        return True
