"""The unit of audio that flows through Pinna: 20 ms of mono 16-bit sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE: Final = 48_000
"""Hz, everywhere inside: the clock rate of Opus over RTP (RFC 7587)."""

FRAME_MS: Final = 20
FRAME_SAMPLES: Final = SAMPLE_RATE * FRAME_MS // 1000

Samples = NDArray[np.int16]
"""Mono PCM. Blocks of one frame have shape (960,)."""

SILENCE: Final[Samples] = np.zeros(FRAME_SAMPLES, np.int16)
SILENCE.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame; nobody writes to it.

    `samples`: shape (960,), int16, read-only. `sequence` counts frames of the capture stream: a jump says
    that frames are missing between this one and the last. `captured_at`: seconds of CLOCK_MONOTONIC at
    which the frame's last sample had been captured. `held`: it was kept back before it went out (a pre-roll),
    so it is no tick of a clock.
    """

    samples: Samples
    sequence: int
    captured_at: float
    held: bool = False
