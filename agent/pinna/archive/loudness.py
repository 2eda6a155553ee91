"""Where something can be heard: levels from a file's peaks, the noise floor, and what rises above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pinna.recorder.peaks import Peaks

MARGIN_DB: Final = 12.0
GAP_SECONDS: Final = 2.0
MINIMUM_SECONDS: Final = 0.5

FLOOR_WINDOW_SECONDS: Final = 60.0
FLOOR_STEP_SECONDS: Final = 5.0
FLOOR_PERCENTILE: Final = 20.0
"""Speech pauses for a fifth of a minute and more; what does not pause is noise."""

QUIETEST_DB: Final = -80.0
"""No floor is taken for lower: digital silence would make everything loud."""

Levels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Section:
    """Seconds from the beginning of the file; the loudest tenth of a second, and how far above the floor."""

    start: float
    end: float
    level_db: float
    above_db: float


def levels(peaks: Peaks) -> Levels:
    """RMS of each entry in dBFS."""
    rms = np.maximum(peaks.entries[:, 2].astype(np.float64), 0.5)
    return 20 * np.log10(rms / 32_768)


def noise_floor(level: Levels, seconds_each: float) -> Levels:
    """For each entry: the 20th percentile of the minute around it."""
    if not level.size:
        return level
    half = round(FLOOR_WINDOW_SECONDS / seconds_each / 2)
    centres = np.arange(0, level.size, max(1, round(FLOOR_STEP_SECONDS / seconds_each)))
    floors = [
        np.percentile(
            level[max(0, min(c - half, level.size - 2 * half)) : max(c + half, 2 * half)], FLOOR_PERCENTILE
        )
        for c in centres
    ]
    return np.maximum(np.interp(np.arange(level.size), centres, floors), QUIETEST_DB)


def loud_sections(
    peaks: Peaks, margin_db: float, gap_seconds: float, minimum_seconds: float
) -> list[Section]:
    """Where the level is `margin_db` above the floor; pauses up to `gap_seconds` do not end a section."""
    level = levels(peaks)
    each = peaks.seconds_each
    above = level - noise_floor(level, each)
    loud = np.flatnonzero(above >= margin_db)
    if not loud.size:
        return []
    breaks = np.flatnonzero(np.diff(loud) - 1 > gap_seconds / each)
    starts, ends = loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, loud.size - 1]] + 1
    return [
        Section(
            *(round(float(start * each), 3), round(float(end * each), 3)),
            *(round(float(level[start:end].max()), 1), round(float(above[start:end].max()), 1)),
        )
        for start, end in zip(starts, ends, strict=True)
        if (end - start) * each >= minimum_seconds
    ]


def reduced(peaks: Peaks, points: int) -> dict[str, Any]:
    """At most so many points, each of the same length: lowest, highest and RMS, 16 bits."""
    each = max(1, -(-len(peaks.entries) // points))
    starts = np.arange(0, len(peaks.entries), each)
    low, high, rms = peaks.entries.T.astype(np.float64)
    counts = np.diff(np.r_[starts, len(peaks.entries)])
    mean = np.sqrt(np.add.reduceat(rms**2, starts) / counts) if starts.size else rms
    return {
        "seconds_each": peaks.seconds_each * each,
        "low": np.minimum.reduceat(low, starts).astype(int).tolist() if starts.size else [],
        "high": np.maximum.reduceat(high, starts).astype(int).tolist() if starts.size else [],
        "rms": np.rint(mean).astype(int).tolist(),
    }
