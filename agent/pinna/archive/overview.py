"""One day of one source in a line: how loud it was when, and where nothing was recorded."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pinna.recorder import peaks
from pinna.recorder.peaks import Peaks

BUCKET_SECONDS: Final = 60.0
MOST_FILES: Final = 3000
"""Of a day: one a minute, and twice as many for unplugs."""

_OFFSET = re.compile(r"T\d\d-\d\d-\d\d([+-]\d{4})")
_HOURS: Final = 24


def overview(
    directory: Path, day: str, files: list[dict[str, Any]], gaps: list[dict[str, Any]]
) -> dict[str, Any]:
    """`files` and `gaps` as the index gives them. Blocks; raises OSError."""
    if not files:
        return {"start": None, "seconds_each": BUCKET_SECONDS, "high": [], "rms": [], "gaps": []}
    files = sorted(files, key=lambda file: float(file["at"]))
    start = _midnight(day, files[0]["name"])
    last = files[-1]
    end = float(last["at"]) + (last["samples"] or 0) / last["rate"]
    buckets = max(_HOURS * 60, int((end - start) // BUCKET_SECONDS) + 1)
    high, power, count = np.zeros(buckets), np.zeros(buckets), np.zeros(buckets)
    for file in files:
        found = peaks.read(directory / file["source"] / day / file["name"])
        if found is None or not len(found.entries):
            continue
        holes = [gap for gap in gaps if gap["file"] == file["name"] and gap["offset"] is not None]
        times = float(file["at"]) - start + _times(found, holes)
        places = np.clip((times // BUCKET_SECONDS).astype(int), 0, buckets - 1)
        entries = found.entries.astype(np.float64)
        np.maximum.at(high, places, np.abs(entries[:, :2]).max(axis=1))
        np.add.at(power, places, entries[:, 2] ** 2)
        np.add.at(count, places, 1)
    rms = np.sqrt(power / np.maximum(count, 1))
    known = count > 0
    return {
        "start": start,
        "seconds_each": BUCKET_SECONDS,
        "high": [int(value) if there else None for value, there in zip(high, known, strict=True)],
        "rms": [round(float(value)) if there else None for value, there in zip(rms, known, strict=True)],
        "gaps": [place for gap in gaps if (place := _place(gap)) is not None],
    }


def _times(found: Peaks, holes: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Seconds of each entry after the beginning of the file, what was lost inside counted."""
    times: NDArray[np.float64] = np.arange(len(found.entries), dtype=np.float64) * found.seconds_each
    for gap in holes:
        times[int(gap["offset"]) // found.samples_each :] += float(gap["seconds"] or 0)
    return times


def _place(gap: dict[str, Any]) -> dict[str, Any] | None:
    try:
        at = datetime.fromisoformat(str(gap["time"])).timestamp()
    except ValueError:
        return None
    return {"at": at, **{key: gap[key] for key in ("seconds", "reason", "detail", "estimated")}}


def _midnight(day: str, name: str) -> float:
    """Of the source's own time zone, which the names of its files tell."""
    offset = _OFFSET.search(name)
    zone = datetime.strptime(offset[1], "%z").tzinfo if offset else UTC
    return datetime.fromisoformat(day).replace(tzinfo=zone).timestamp()
