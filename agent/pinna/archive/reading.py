"""A day's manifest as rows for the index; of many days by a process of its own.

Whoever reads manifests keeps Python's lock (GIL) for 5 ms at a time, and would have to be waited for at each
step of each answer, the longer the busier the machine. The process gives way to everything else, and what it
writes goes into SQLite as it is: one line for each step, its kind, a tab and JSON.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinna.recorder.manifest import NAME, Account, Line, Segment, read_day

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")
ROWS_AT_ONCE: Final = 100
"""Of a step: a few milliseconds in which nobody else is answered."""

_MOST: Final = 2**53
"""Samples, bytes, microseconds: more is nonsense, and no number to a browser."""

NICER: Final = 5
"""Three times less of a busy processor than whoever answers: not nothing, or old days would never come."""

Row = tuple[object, ...]
Step = tuple[str, str]
"""`keep`: [source, day, names], all there are; `file`: rows; `gap`: [source, day, rows], all there are;
`day`: [source, day, size of the manifest]. In this order; others may see the archive in between."""


@dataclass(frozen=True, slots=True)
class Day:
    """What is in a manifest of `size` bytes."""

    source: str
    day: str
    size: int
    files: tuple[Row, ...]
    gaps: tuple[Row, ...]

    def steps(self, known: Day | None = None) -> Iterator[Step]:
        """Without what is `known` of the same day already."""
        place = [self.source, self.day]
        yield "keep", json.dumps([*place, [row[2] for row in self.files]])
        old = frozenset(known.files if known else ())
        rows = [row for row in self.files if row not in old]
        for first in range(0, len(rows), ROWS_AT_ONCE):
            yield "file", json.dumps(rows[first : first + ROWS_AT_ONCE])
        if known is None or known.gaps != self.gaps:
            yield "gap", json.dumps([*place, self.gaps])
        yield "day", json.dumps([*place, self.size])


def read(archive: Path, source: str, day: str, size: int) -> Day:
    """Raises OSError."""
    account = Account()
    read_day(archive / source / day / NAME, account)
    files = (_file(source, day, segment) for segment in account.segments)
    gaps = (_gap(source, day, gap) for gap in account.gaps)
    return Day(source, day, size, tuple(filter(None, files)), tuple(filter(None, gaps)))


def _file(source: str, day: str, segment: Segment) -> Row | None:
    """None for what is not there any more, or never was. Its time in whole microseconds."""
    opened, closed = segment.opened, segment.closed
    name = str(opened["file"])
    if segment.deleted or (closed is not None and not segment.samples) or not SAFE_NAME.fullmatch(name):
        return None
    try:
        at, rate = round(float(opened["wall"]) * 1e6), int(opened["rate"])
        channels, bits = int(opened["channels"]), int(opened["bits"])
        size = int(closed["bytes"]) if closed else 0
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    lost = sum(int(gap["samples"]) for gap in segment.gaps)
    if max(map(abs, (at, rate, channels, bits, size, segment.samples, lost))) > _MOST:
        return None
    sound = (segment.samples, rate, size, _text(opened.get("format")), channels, bits)
    return (source, day, name, at, *sound, closed is None, lost, _text(opened.get("title")))


def _gap(source: str, day: str, gap: Line) -> Row | None:
    first, samples, offset = int(gap["first"]), int(gap["samples"]), gap.get("offset")
    if max(abs(first), abs(samples)) > _MOST or not (offset is None or isinstance(offset, int)):
        return None
    seconds = gap.get("seconds")
    known = isinstance(seconds, int | float) and math.isfinite(seconds)
    told = (_text(gap.get("reason")), _text(gap.get("time")), seconds if known else None)
    rest = (samples, bool(gap.get("estimated")), _text(gap.get("detail")), first)
    return (source, day, *told, *rest, _text(gap.get("file")), offset)


def _text(value: object) -> str | None:
    """Half a character of UTF-16, which JSON may hold, is none of UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


class Elsewhere:
    """Reads all `days` (source, day, size) in another process. A context manager; raises OSError."""

    def __init__(self, archive: Path, days: list[tuple[str, str, int]]) -> None:
        command = [sys.executable, "-m", "pinna.archive.reading", str(archive)]
        self._process = subprocess.Popen(  # noqa: S603  (our own words)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin:
            json.dump(days, self._process.stdin)

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()

    def steps(self) -> Iterator[Step]:
        """Of fewer days than asked for, if it was ended or failed."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, _, text = line.partition("\t")
            if line.endswith("\n"):
                yield kind, text

    def end(self) -> None:
        """From any thread."""
        self._process.kill()


def main(archive: Path) -> None:
    os.nice(NICER)
    for source, day, size in json.load(sys.stdin):
        with contextlib.suppress(FileNotFoundError):  # it has gone since
            for kind, text in read(archive, source, day, size).steps():
                sys.stdout.write(f"{kind}\t{text}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
