"""What is in the archive, for pages that show a part of it: SQLite in memory, made from the manifests.

Nothing is kept on disk, so nothing can disagree with it or lock the recorder out; the manifests that have
grown are read again, the others only looked at. One thread refreshes, newest days first, while others ask:
they wait for one day to be written at most, never for manifests to be read.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
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
CREATE INDEX by_day ON file (source, day, at);
CREATE UNIQUE INDEX by_name ON file (source, day, name);
CREATE TABLE gap (
  source TEXT, day TEXT, reason TEXT, time TEXT, seconds REAL, samples INTEGER, estimated INTEGER,
  detail TEXT, first INTEGER, file TEXT, offset INTEGER
);
CREATE INDEX gap_by_day ON gap (source, day);
"""

_FILE = "source, day, name, at, samples, rate, bytes, format, channels, bits, open, lost, title"


class Index:
    def __init__(self, archive: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive = archive
        self._clock = clock
        self._looked = self._looked_at_all = float("-inf")
        self._ending = threading.Event()
        self._lock = threading.Lock()  # of the base; never held while a file is read
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._base.row_factory = sqlite3.Row
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
        known = {(row["source"], row["day"]): row["size"] for row in self._rows("SELECT * FROM day")}
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
        rows = self._rows(
            "SELECT source, day, files, bytes, recording FROM day WHERE files ORDER BY source, day DESC"
        )
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
        """Newest first; empty `source` or `day`: of all. `before`: only older ones (Unix time)."""
        where, values = _where(source=source, day=day)
        if before is not None:
            where, values = f"{where} AND at < ?", [*values, before]
        query = f"SELECT {_FILE} FROM file WHERE {where} ORDER BY at DESC LIMIT ?"  # noqa: S608 (our own words)
        return [dict(row) for row in self._rows(query, *values, limit)]

    def open_files(self) -> list[dict[str, Any]]:
        """Those that no line has closed: they grow, or a crash has left them."""
        return [dict(row) for row in self._rows(f"SELECT {_FILE} FROM file WHERE open")]  # noqa: S608 (as above)

    def file(self, source: str, day: str, name: str) -> dict[str, Any] | None:
        query = f"SELECT {_FILE} FROM file WHERE source = ? AND day = ? AND name = ?"  # noqa: S608 (as above)
        rows = self._rows(query, source, day, name)
        return dict(rows[0]) if rows else None

    def gaps(self, source: str, day: str, limit: int, file: str = "") -> list[dict[str, Any]]:
        """Newest first; with `file` only those in it."""
        where, values = _where(source=source, day=day, file=file)
        query = f"SELECT * FROM gap WHERE {where} ORDER BY day DESC, first DESC LIMIT ?"  # noqa: S608 (as above)
        return [dict(row) for row in self._rows(query, *values, limit)]

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._base.execute(query, values).fetchall()

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
                *(source, day, gap.get("reason"), gap.get("time"), gap.get("seconds"), gap["samples"]),
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
        """All of a day, in place of what was known of it. `size` None: it is gone."""
        with self._lock:
            self._base.execute("BEGIN")
            for table in ("day", "file", "gap"):
                forget = f"DELETE FROM {table} WHERE source = ? AND day = ?"  # noqa: S608 (as above)
                self._base.execute(forget, (source, day))
            self._base.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", files
            )
            self._base.executemany("INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", gaps)
            if size is not None:
                self._base.execute(
                    "INSERT INTO day"
                    " SELECT ?, ?, ?, count(*), coalesce(sum(bytes), 0), coalesce(max(open), 0)"
                    " FROM file WHERE source = ? AND day = ?",
                    (source, day, size, source, day),
                )
            self._base.execute("COMMIT")


def _row(source: str, day: str, segment: Segment) -> tuple[object, ...] | None:
    """None for what is not there any more, or never was."""
    opened, closed = segment.opened, segment.closed
    name = str(opened["file"])
    if segment.deleted or (closed is not None and not segment.samples) or not SAFE_NAME.fullmatch(name):
        return None
    try:
        at, rate = float(opened["wall"]), int(opened["rate"])
        channels, bits = int(opened["channels"]), int(opened["bits"])
        size = int(closed["bytes"]) if closed else 0
    except (KeyError, TypeError, ValueError):
        return None
    lost = sum(int(gap["samples"]) for gap in segment.gaps)
    sound = (segment.samples, rate, size, str(opened.get("format")), channels, bits)
    return (source, day, name, at, *sound, closed is None, lost, opened.get("title"))


def _where(**wanted: str) -> tuple[str, list[Any]]:
    given = {column: value for column, value in wanted.items() if value}
    return " AND ".join(["1", *(f"{column} = ?" for column in given)]), list(given.values())
