"""What is in the archive, for pages that show a part of it: SQLite in memory, made from the manifests.

Nothing is kept on disk, so nothing can disagree with it or lock the recorder out; the manifests that have
grown are read again, the others only looked at. One thread refreshes, newest days first, while others ask:
they wait for what is new of one day to be written at most, never for manifests to be read. An answer is one
step of SQLite: at each, sqlite3 lets go of Python's lock (GIL), and who reads manifests keeps it for 5 ms.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinna.recorder.manifest import NAME, Account, Segment, read_day

FRESH_SECONDS: Final = 2.0
ALL_SECONDS: Final = 60.0
"""Days gone by change only when retention deletes: they are looked at less often than the last two."""

PAGE: Final = 200
SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

_SCHEMA = """
CREATE TABLE day (
  source TEXT, day TEXT, size INTEGER, files INTEGER, bytes INTEGER, recording INTEGER,
  PRIMARY KEY (source, day)
) WITHOUT ROWID;
CREATE TABLE file (
  source TEXT, day TEXT, name TEXT, at REAL, samples INTEGER, rate INTEGER, bytes INTEGER, format TEXT,
  channels INTEGER, bits INTEGER, open INTEGER, lost INTEGER, title TEXT
);
CREATE INDEX by_time ON file (at);
CREATE INDEX by_open ON file (open) WHERE open;
CREATE INDEX by_source ON file (source, at);
CREATE INDEX by_date ON file (day, at);
CREATE INDEX by_day ON file (source, day, at);
CREATE UNIQUE INDEX by_name ON file (source, day, name);
CREATE TABLE gap (
  source TEXT, day TEXT, reason TEXT, time TEXT, seconds REAL, samples INTEGER, estimated INTEGER,
  detail TEXT, first INTEGER, file TEXT, offset INTEGER
);
CREATE INDEX gap_by_day ON gap (source, day, first);
CREATE INDEX gap_by_date ON gap (day, first);
"""

_FILE = "source, day, name, at, samples, rate, bytes, format, channels, bits, open, lost, title"
_GAP = "source, day, reason, time, seconds, samples, estimated, detail, first, file, offset"
_EXACT = {"at": "CAST(round(at * 1e6) AS INTEGER)"}  # SQLite writes 15 digits of a number, and these have 16


class Index:
    def __init__(self, archive: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive = archive
        self._clock = clock
        self._looked = self._looked_at_all = float("-inf")
        self._newest: dict[str, _Day] = {}
        self._ending = threading.Event()
        self._lock = threading.Lock()  # of the base; never held while a file is read
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._base.executescript(_SCHEMA)

    @property
    def fresh(self) -> bool:
        """Looked at within the last two seconds."""
        return self._clock() - self._looked < FRESH_SECONDS

    @property
    def whole(self) -> bool:
        """All manifests have been read once; until then the oldest recordings are missing."""
        return self._looked_at_all > float("-inf")

    def refresh(self) -> None:
        """Follow the disk, at most every two seconds. Raises OSError when the archive cannot be read."""
        now = self._clock()
        if now - self._looked < FRESH_SECONDS:
            return
        everything = now - self._looked_at_all >= ALL_SECONDS
        known = {(row["source"], row["day"]): row["size"] for row in self._rows("source, day, size", "day")}
        found = {(source, day): size for source, day, size in self._manifests(everything=everything)}
        for source, day in sorted(found, key=lambda place: place[1], reverse=True):
            if self._ending.is_set():
                return
            if known.get((source, day)) != found[source, day]:
                self._read(source, day, found[source, day])
        for source, day in known.keys() - found.keys() if everything else ():
            self._write(source, day, None, [], [])
        self._looked = self._clock()
        if everything:
            self._looked_at_all = self._looked

    def end(self) -> None:
        """A refresh that goes on ends with the day that it reads."""
        self._ending.set()

    def sources(self) -> list[dict[str, Any]]:
        """Each with its days, newest first."""
        rows = self._rows("source, day, files, bytes, recording", "day WHERE files ORDER BY source, day DESC")
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            entry = found.setdefault(row["source"], {"name": row["source"], "bytes": 0, "recording": False})
            entry.setdefault("days", []).append(
                {"day": row["day"], "files": row["files"], "bytes": row["bytes"]}
            )
            entry["bytes"] += row["bytes"]
            entry["recording"] |= bool(row["recording"])
        return list(found.values())

    def files(self, source: str, day: str, before: float | None, limit: int) -> list[dict[str, Any]]:
        """Newest first; empty `source` or `day`: of all. `before`: only older ones (Unix time).

        More than `limit` where several began at the same time: `before` that time are all others.
        """
        where, values = _where(source=source, day=day)
        if before is not None:
            where, values = f"{where} AND at < ?", [*values, before]
        last = f"SELECT at FROM file WHERE {where} ORDER BY at DESC LIMIT 1 OFFSET ?"  # noqa: S608 (our own words)
        rest = f"file WHERE {where} AND at >= coalesce(({last}), -1e300) ORDER BY at DESC"
        return self._rows(_FILE, rest, *values, *values, limit - 1)

    def open_files(self) -> list[dict[str, Any]]:
        """Those that no line has closed: they grow, or a crash has left them."""
        return self._rows(_FILE, "file WHERE open")

    def file(self, source: str, day: str, name: str) -> dict[str, Any] | None:
        rows = self._rows(_FILE, "file WHERE source = ? AND day = ? AND name = ?", source, day, name)
        return rows[0] if rows else None

    def gaps(self, source: str, day: str, limit: int, file: str = "") -> list[dict[str, Any]]:
        """Newest first; with `file` only those in it."""
        where, values = _where(source=source, day=day, file=file)
        return self._rows(_GAP, f"gap WHERE {where} ORDER BY day DESC, first DESC LIMIT ?", *values, limit)

    def _rows(self, columns: str, rest: str, *values: object) -> list[dict[str, Any]]:
        """`columns` FROM `rest`, in one step (see above)."""
        names = columns.split(", ")
        cells = ", ".join(_EXACT.get(name, name) for name in names)
        query = f"SELECT json_group_array(json_array({cells})) FROM (SELECT {columns} FROM {rest})"  # noqa: S608 (our own words)
        with self._lock:
            (text,) = self._base.execute(query, values).fetchone()
        rows = [dict(zip(names, row, strict=True)) for row in json.loads(text)]
        for row in rows if "at" in names else ():
            row["at"] /= 1e6
        return rows

    def _manifests(self, *, everything: bool) -> Iterator[tuple[str, str, int]]:
        for source in os.scandir(self._archive):
            if not SAFE_NAME.fullmatch(source.name) or not source.is_dir(follow_symlinks=False):
                continue
            with os.scandir(source.path) as entries:
                days = sorted(
                    day.name for day in entries if _DAY.fullmatch(day.name) and not day.is_symlink()
                )
            for day in days if everything else days[-2:]:
                try:
                    yield source.name, day, Path(source.path, day, NAME).stat().st_size
                except (FileNotFoundError, NotADirectoryError):
                    continue

    def _read(self, source: str, day: str, size: int) -> None:
        account = Account()
        read_day(self._archive / source / day / NAME, account)
        rows = (_row(source, day, segment) for segment in account.segments)
        files = [row for row in rows if row is not None]
        gaps: list[tuple[object, ...]] = [
            (
                *(
                    source,
                    day,
                    gap.get("reason"),
                    gap.get("time"),
                    _finite(gap.get("seconds")),
                    gap["samples"],
                ),
                *(bool(gap.get("estimated")), gap.get("detail"), gap["first"]),
                *(gap.get("file"), gap.get("offset")),
            )
            for gap in account.gaps
        ]
        self._write(source, day, size, files, gaps)

    def _write(
        self,
        source: str,
        day: str,
        size: int | None,
        files: list[tuple[object, ...]],
        gaps: list[tuple[object, ...]],
    ) -> None:
        """A day as it is now; of a source's newest, only what has changed. `size` None: it is gone."""
        newest = self._newest.get(source)
        known = newest if newest is not None and newest.name == day else None
        now = _Day(day, frozenset(files), frozenset(gaps))
        with self._lock:
            self._base.execute("BEGIN")
            if known is None:
                self._forget("file", source, day)
            else:
                files = [row for row in files if row not in known.files]
                gone = [(source, day, name) for name in known.names - now.names]
                self._base.executemany("DELETE FROM file WHERE source = ? AND day = ? AND name = ?", gone)
            if known is None or known.gaps != now.gaps:
                self._forget("gap", source, day)
                self._base.executemany("INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", gaps)
            self._base.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", files
            )
            self._forget("day", source, day)
            if size is not None:
                self._base.execute(
                    "INSERT INTO day"
                    " SELECT ?, ?, ?, count(*), coalesce(sum(bytes), 0), coalesce(max(open), 0)"
                    " FROM file WHERE source = ? AND day = ?",
                    (source, day, size, source, day),
                )
            self._base.execute("COMMIT")
        if newest is None or day >= newest.name:
            self._newest[source] = now

    def _forget(self, table: str, source: str, day: str) -> None:
        self._base.execute(f"DELETE FROM {table} WHERE source = ? AND day = ?", (source, day))  # noqa: S608 (as above)


@dataclass(frozen=True, slots=True)
class _Day:
    """What was written of the newest day of a source."""

    name: str
    files: frozenset[tuple[object, ...]]
    gaps: frozenset[tuple[object, ...]]

    @property
    def names(self) -> set[object]:
        return {row[2] for row in self.files}


def _row(source: str, day: str, segment: Segment) -> tuple[object, ...] | None:
    """None for what is not there any more, or never was."""
    opened, closed = segment.opened, segment.closed
    name = str(opened["file"])
    if segment.deleted or (closed is not None and not segment.samples) or not SAFE_NAME.fullmatch(name):
        return None
    try:
        at, rate = round(float(opened["wall"]), 6), int(opened["rate"])
        channels, bits = int(opened["channels"]), int(opened["bits"])
        size = int(closed["bytes"]) if closed else 0
    except (KeyError, TypeError, ValueError):
        return None
    if not math.isfinite(at):
        return None
    lost = sum(int(gap["samples"]) for gap in segment.gaps)
    sound = (segment.samples, rate, size, str(opened.get("format")), channels, bits)
    return (source, day, name, at, *sound, closed is None, lost, opened.get("title"))


def _finite(value: object) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _where(**wanted: str) -> tuple[str, list[Any]]:
    given = {column: value for column, value in wanted.items() if value}
    return " AND ".join(["1", *(f"{column} = ?" for column in given)]), list(given.values())
