"""What is in the archive, for pages that show a part of it: SQLite in memory, made from the manifests.

Nothing is kept on disk, so nothing can disagree with it or lock the recorder out; the manifests that have
grown are read again, the others only looked at. One thread at a time.
"""

from __future__ import annotations

import os
import re
import sqlite3
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
CREATE INDEX by_day ON file (source, day, at);
CREATE UNIQUE INDEX by_name ON file (source, day, name);
CREATE TABLE gap (
  source TEXT, day TEXT, reason TEXT, time TEXT, seconds REAL, samples INTEGER, estimated INTEGER,
  detail TEXT, first INTEGER
);
CREATE INDEX gap_by_day ON gap (source, day);
"""

_FILE = "source, day, name, at, samples, rate, bytes, format, channels, bits, open, lost, title"


class Index:
    def __init__(self, archive: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._archive = archive
        self._clock = clock
        self._looked = self._looked_at_all = float("-inf")
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._base.row_factory = sqlite3.Row
        self._base.executescript(_SCHEMA)

    def refresh(self) -> None:
        """Follow the disk, at most every two seconds. Raises OSError when the archive cannot be read."""
        now = self._clock()
        if now - self._looked < FRESH_SECONDS:
            return
        everything = now - self._looked_at_all >= ALL_SECONDS
        known = {(row["source"], row["day"]): row["size"] for row in self._base.execute("SELECT * FROM day")}
        seen = set()
        self._base.execute("BEGIN")
        try:
            for source, day, size in self._manifests(everything=everything):
                seen.add((source, day))
                if known.get((source, day)) != size:
                    self._read(source, day, size)
            for source, day in known.keys() - seen if everything else ():
                self._forget(source, day)
        finally:
            self._base.execute("COMMIT")
        self._looked = self._clock()
        if everything:
            self._looked_at_all = self._looked

    def sources(self) -> list[dict[str, Any]]:
        """Each with its days, newest first."""
        rows = self._base.execute(
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
        return [dict(row) for row in self._base.execute(query, [*values, limit])]

    def file(self, source: str, day: str, name: str) -> dict[str, Any] | None:
        query = f"SELECT {_FILE} FROM file WHERE source = ? AND day = ? AND name = ?"  # noqa: S608 (as above)
        row = self._base.execute(query, (source, day, name)).fetchone()
        return dict(row) if row else None

    def gaps(self, source: str, day: str, limit: int) -> list[dict[str, Any]]:
        """Newest first."""
        where, values = _where(source=source, day=day)
        query = f"SELECT * FROM gap WHERE {where} ORDER BY day DESC, first DESC LIMIT ?"  # noqa: S608 (as above)
        return [dict(row) for row in self._base.execute(query, [*values, limit])]

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
        self._forget(source, day)
        account = Account()
        read_day(self._archive / source / day / NAME, account)
        rows = (_row(source, day, segment) for segment in account.segments)
        kept = [row for row in rows if row is not None]
        self._base.executemany(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", kept
        )
        gaps = [
            (
                *(source, day, gap.get("reason"), gap.get("time"), gap.get("seconds"), gap["samples"]),
                *(bool(gap.get("estimated")), gap.get("detail"), gap["first"]),
            )
            for gap in account.gaps
        ]
        self._base.executemany("INSERT INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", gaps)
        self._base.execute(
            "INSERT OR REPLACE INTO day"
            " SELECT ?, ?, ?, count(*), coalesce(sum(bytes), 0), coalesce(max(open), 0)"
            " FROM file WHERE source = ? AND day = ?",
            (source, day, size, source, day),
        )

    def _forget(self, source: str, day: str) -> None:
        for table in ("day", "file", "gap"):
            self._base.execute(f"DELETE FROM {table} WHERE source = ? AND day = ?", (source, day))  # noqa: S608


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
