"""What is in the archive, for pages that show a part of it: SQLite in memory, made from the manifests.

Nothing is kept on disk, so nothing can disagree with it or lock the recorder out; the manifests that have
grown are read again, the others only looked at. One thread refreshes, newest days first, while others ask:
they wait for one step to be written at most (see `reading`), never for manifests to be read. An answer is one
step of SQLite, too: at each, sqlite3 lets go of Python's lock (GIL), and has to wait for it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pinna.archive import reading
from pinna.archive.reading import SAFE_NAME, Day, Step
from pinna.recorder.manifest import NAME

FRESH_SECONDS: Final = 2.0
ALL_SECONDS: Final = 60.0
"""Days gone by change only when retention deletes: they are looked at less often than the last two."""

PAGE: Final = 200
MOST_READ_HERE: Final = 4
"""Days gone by that have changed. More are worth a process of their own."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

_SCHEMA = """
CREATE TABLE day (
  source TEXT, day TEXT, size INTEGER, files INTEGER, bytes INTEGER, recording INTEGER,
  PRIMARY KEY (source, day)
) WITHOUT ROWID;
CREATE TABLE file (
  source TEXT, day TEXT, name TEXT, at INTEGER, samples INTEGER, rate INTEGER, bytes INTEGER, format TEXT,
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

_LATEST = 9e12  # seconds; their microseconds are still whole numbers to SQLite
_FILE = "source, day, name, at, samples, rate, bytes, format, channels, bits, open, lost, title"
_GAP = "source, day, reason, time, seconds, samples, estimated, detail, first, file, offset"


def _columns(of: str) -> str:
    return ", ".join(f"json_extract(value, '$[{k}]')" for k in range(len(of.split(", "))))


_HERE = "source = json_extract(:given, '$[0]') AND day = json_extract(:given, '$[1]')"
_STEPS: Final = {
    "keep": [
        f"DELETE FROM file WHERE {_HERE}"  # noqa: S608 (our own words)
        " AND name NOT IN (SELECT value FROM json_each(:given, '$[2]'))"
    ],
    "file": [f"INSERT OR REPLACE INTO file SELECT {_columns(_FILE)} FROM json_each(:given)"],  # noqa: S608 (as above)
    "gap": [
        f"DELETE FROM gap WHERE {_HERE}",  # noqa: S608 (as above)
        f"INSERT INTO gap SELECT {_columns(_GAP)} FROM json_each(:given, '$[2]')",  # noqa: S608 (as above)
    ],
    "day": [
        "INSERT OR REPLACE INTO day"  # noqa: S608 (as above)
        " SELECT json_extract(:given, '$[0]'), json_extract(:given, '$[1]'), json_extract(:given, '$[2]'),"
        f" count(*), coalesce(sum(bytes), 0), coalesce(max(open), 0) FROM file WHERE {_HERE}"
    ],
    "gone": [f"DELETE FROM day WHERE {_HERE}"],  # noqa: S608 (as above)
}


class Index:
    def __init__(self, archive: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive = archive
        self._clock = clock
        self._looked = self._looked_at_all = float("-inf")
        self._newest: dict[str, Day] = {}
        self._elsewhere: reading.Elsewhere | None = None
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
        newest = set(dict(sorted(found)).items())
        changed = [place for place, size in found.items() if known.get(place) != size]
        changed.sort(key=lambda place: place[1], reverse=True)
        old = [(*place, found[place]) for place in changed if place not in newest]
        self._read([(*place, found[place]) for place in changed if place in newest])
        done = self._read_elsewhere(old) if len(old) > MOST_READ_HERE else set()
        self._read([day for day in old if day[:2] not in done])
        if self._ending.is_set():
            return
        for place in known.keys() - found.keys() if everything else ():
            for kind in ("keep", "gap", "gone"):
                self._take((kind, json.dumps([*place, []])))
        self._looked = self._clock()
        if everything:
            self._looked_at_all = self._looked

    def end(self) -> None:
        """A refresh that goes on ends with the day that it reads."""
        self._ending.set()
        if self._elsewhere is not None:
            self._elsewhere.end()

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
            where, values = f"{where} AND at < ?", [*values, round(min(before, _LATEST) * 1e6)]
        last = f"SELECT at FROM file WHERE {where} ORDER BY at DESC LIMIT 1 OFFSET ?"  # noqa: S608 (our own words)
        rest = f"file WHERE {where} AND at >= coalesce(({last}), -9e18) ORDER BY at DESC"
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
        query = f"SELECT json_group_array(json_array({columns})) FROM (SELECT {columns} FROM {rest})"  # noqa: S608 (our own words)
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

    def _read(self, days: list[tuple[str, str, int]]) -> None:
        for source, day, size in days:
            if self._ending.is_set():
                return
            with contextlib.suppress(FileNotFoundError):  # gone since
                self._write(reading.read(self._archive, source, day, size))

    def _read_elsewhere(self, days: list[tuple[str, str, int]]) -> set[tuple[str, str]]:
        """Source and day of those that could be read."""
        done: set[tuple[str, str]] = set()
        with reading.Elsewhere(self._archive, days) as self._elsewhere:
            for kind, text in () if self._ending.is_set() else self._elsewhere.steps():
                self._take((kind, text))
                if kind == "day":
                    source, day, _ = json.loads(text)
                    done.add((source, day))
        return done

    def _write(self, day: Day) -> None:
        """Of a source's newest day, only what has changed since."""
        newest = self._newest.get(day.source)
        for step in day.steps(newest if newest is not None and newest.day == day.day else None):
            self._take(step)
        if newest is None or day.day >= newest.day:
            self._newest[day.source] = day

    def _take(self, step: Step) -> None:
        kind, text = step
        with self._lock, self._base:
            self._base.execute("BEGIN")
            for statement in _STEPS[kind]:
                self._base.execute(statement, {"given": text})


def _where(**wanted: str) -> tuple[str, list[Any]]:
    given = {column: value for column, value in wanted.items() if value}
    return " AND ".join(["1", *(f"{column} = ?" for column in given)]), list(given.values())
