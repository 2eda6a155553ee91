"""Short tones that tell the state. They take the way of the hub's voice: the echo canceller knows them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from pinna.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Samples
from pinna.session.overheard import Plays
from pinna.session.sessions import Change
from pinna.session.states import State

NOTE_FRAMES: Final = 3
FADE_MS: Final = 5
AMPLITUDE: Final = 0.1
"""−20 dBFS."""

SPEAKS_SECONDS: Final = 3 * FRAME_MS / 1000
"""A link that played within this is playing: tones are mixed into its frames, and delay nothing."""

STALE_SECONDS: Final = 0.5
"""What has found no frame to be mixed into by then is not told any more."""


class Tones:
    """Passes everything on to `speaker`. Event loop only."""

    def __init__(self, speaker: Plays, clock: Callable[[], float] = time.monotonic) -> None:
        self._speaker = speaker
        self._clock = clock
        self._played_at = self._told_at = float("-inf")
        self._waiting: deque[Samples] = deque()

    def play(self, samples: Samples) -> bool:
        now = self._played_at = self._clock()
        if self._waiting:
            tone = self._waiting.popleft()
            if now - self._told_at > STALE_SECONDS:
                self._waiting.clear()
            else:
                samples = np.clip(samples.astype(np.int32) + tone, -32768, 32767).astype(np.int16)
        return self._speaker.play(samples)

    @property
    def queued_ms(self) -> int:
        return self._speaker.queued_ms

    def follow(self, change: Change) -> None:
        if change.before is change.after:
            return  # the start
        self._waiting = deque(tone(*notes_of(change)))
        self._told_at = self._clock()
        if self._told_at - self._played_at > SPEAKS_SECONDS:
            while self._waiting:
                self._speaker.play(self._waiting.popleft())


def notes_of(change: Change) -> tuple[float, float]:
    """Hz: up into a session, down out of it; two low ones for a mute, and up from it."""
    if change.after is State.SESSION:
        return 659.3, 880.0
    if change.after is State.MUTED:
        return 329.6, 329.6
    return (329.6, 440.0) if change.before is State.MUTED else (880.0, 659.3)


def tone(*notes: float) -> list[Samples]:
    """Frames of int16; each note of NOTE_FRAMES, with raised-cosine ends."""
    count = NOTE_FRAMES * FRAME_SAMPLES
    fade = (1 - np.cos(np.linspace(0, np.pi, SAMPLE_RATE * FADE_MS // 1000))) / 2
    shape = np.ones(count)
    shape[: len(fade)], shape[-len(fade) :] = fade, fade[::-1]
    turns = 2 * np.pi * np.arange(count) / SAMPLE_RATE
    sound = np.concatenate([np.sin(turns * note) * shape for note in notes])
    return np.split((sound * AMPLITUDE * 32767).astype(np.int16), len(sound) // FRAME_SAMPLES)
