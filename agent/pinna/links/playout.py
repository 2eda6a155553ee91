"""What a voice service says, until it is heard: pieces of any length come, frames of 20 ms go."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from pinna.flow.surplus import Surplus
from pinna.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Samples

AHEAD_MS: Final = 40
"""Kept in hand before the first frame of a speech is heard, against an uneven network."""

MOST_AHEAD_MS: Final = 120
"""Each time that it was too little, from then on 20 ms more are kept in hand, up to this."""

PAUSE_FRAMES: Final = 10
"""What is late by no more than this was late. After a longer silence, somebody speaks anew."""

MAX_SECONDS: Final = 30
"""A service may speak faster than it is heard. What is more than this is dropped, and counted."""


class Playout:
    """Event loop only.

    A service that sends all the time, be it silence, would be late for the rest of a call once the network,
    or a loudspeaker that was away, has held it up. So of what is more than needed in hand, quiet frames go at
    once, and one of speech every half second. What was sent in advance is not late.
    """

    def __init__(self) -> None:
        self.frames = 0
        """Frames' worth of sound that came."""
        self.dropped = 0
        """Frames' worth that there was no room for."""
        self.trimmed = 0
        """Frames given up to win back latency."""
        self._pieces: deque[Samples] = deque()
        self._waiting = 0  # samples
        self._came = 0
        self._lost = 0
        self._ahead_ms = AHEAD_MS
        self._speaking = False
        self._ticks = 0  # since the first piece of a speech came
        self._ran_out = False  # what was heard has not gone on yet
        self._silent = 0  # frames of silence in the loudspeaker since then
        self._surplus = Surplus()

    def put(self, piece: Samples) -> None:
        """Sound at 48 kHz, any length."""
        self._came += len(piece)
        self.frames = self._came // FRAME_SAMPLES
        if self._waiting + len(piece) > MAX_SECONDS * SAMPLE_RATE:
            self._lost += len(piece)
            self.dropped = self._lost // FRAME_SAMPLES
        elif len(piece):
            self._pieces.append(piece)
            self._waiting += len(piece)

    def frame(self, *, queued: bool = False) -> Samples | None:
        """The next one, shape (960,), once per 20 ms. None: silence. A last bit is filled up with zeros.

        `queued`: the loudspeaker has frames left that it was given before.
        """
        if not self._waiting:
            self._ran_out |= self._speaking
            self._silent += self._ran_out and not queued
            self._speaking, self._ticks = False, 0
            return None
        if 0 < self._silent <= PAUSE_FRAMES:
            self._ahead_ms = min(self._ahead_ms + FRAME_MS, MOST_AHEAD_MS)
        self._ran_out, self._silent = False, 0
        self._ticks += 1
        in_hand = self._ahead_ms * SAMPLE_RATE // 1000
        if not self._speaking and self._waiting < in_hand and self._ticks <= self._ahead_ms // FRAME_MS:
            return None
        self._speaking = True
        frame = self._take()
        while self._surplus.has(frame, self._waiting // FRAME_SAMPLES, self.frames) and self._waiting:
            self.trimmed += 1
            frame = self._take()
        return frame

    def clear(self) -> None:
        self._pieces.clear()
        self._waiting = 0

    def _take(self) -> Samples:
        frame = np.zeros(FRAME_SAMPLES, np.int16)
        filled = 0
        while filled < FRAME_SAMPLES and self._pieces:
            piece = self._pieces[0]
            part = piece[: FRAME_SAMPLES - filled]
            frame[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(piece):
                self._pieces[0] = piece[len(part) :]
            else:
                self._pieces.popleft()
        self._waiting -= filled
        return frame
