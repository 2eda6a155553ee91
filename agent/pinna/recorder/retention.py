"""Room on the disk: what is too old or too much is deleted, oldest first; a reserve stays free.

A file with `NAME.pin` beside it is never deleted, nor is one that is still being written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from pinna.recorder.clock import iso
from pinna.recorder.disk import free_bytes, peaks_of
from pinna.recorder.formats.form import SUFFIXES
from pinna.recorder.manifest import Account, Segment, read_day
from pinna.recorder.manifest import days as manifests
from pinna.recorder.recover import finish_deletion
from pinna.recorder.settings import Settings, Source, is_source_name
from pinna.recorder.track import Track

RETENTION_SECONDS: Final = 60.0
RESUME_FACTOR: Final = 1.1
"""Recording goes on when a tenth more than the reserve is free, not at every byte."""

STEP: Final = 0.05
"""Between two priorities, as a part of the reserve: the least important stop first."""

EARLIEST_SECONDS: Final = 14 * 3600
"""A day begins so much before UTC's, in the east."""

_SUFFIXES: Final = tuple(SUFFIXES.values())

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Candidate:
    segment: Segment
    source: Source
    bytes: int

    @property
    def ended(self) -> float:
        assert self.segment.closed is not None
        return float(self.segment.closed["wall"])

    def is_old(self, now: float) -> bool:
        return _is_old(self.ended, self.source, now)


@dataclass(frozen=True, slots=True)
class _Day:
    """Of one source; `files`: bytes by name, none of them pinned."""

    source: Source
    manifest: Path
    files: dict[str, int]

    def has_old(self, now: float) -> bool:
        """Whether any file may be too old: by the day's name, wherever on Earth it was that day."""
        begin = datetime.fromisoformat(self.manifest.parent.name).replace(tzinfo=UTC).timestamp()
        return _is_old(begin - EARLIEST_SECONDS, self.source, now)


def _is_old(at: float, source: Source, now: float) -> bool:
    return bool(source.keep_days) and at < now - source.keep_days * 86_400


class Keeper:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next = 0.0
        self._free = 0

    def disk(self) -> dict[str, int]:
        return {"free_bytes": self._free, "reserve_bytes": self._settings.reserve_mb << 20}

    def look(self, tracks: Sequence[tuple[Source, Track]]) -> None:
        """Called every few seconds."""
        self._free = free_bytes(self._settings.directory)
        self.hold_reserve(tracks, self._free)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + RETENTION_SECONDS
            try:
                self.apply_retention(time.time())
            except OSError as error:
                log.error("recorder.retention_failed", cause=str(error))

    def hold_reserve(self, tracks: Sequence[tuple[Source, Track]], free: int) -> None:
        """Suspend who has to stop at so much free space, and let go on who need not."""
        ranks = sorted({source.priority for source, _ in tracks}, reverse=True)
        for source, track in tracks:
            limit = (self._settings.reserve_mb << 20) * (1 + STEP * ranks.index(source.priority))
            if not track.suspended and free < limit:
                track.suspended = f"only {free >> 20} MB are free on the disk"
                log.error("recorder.suspended", source=source.name, cause=track.suspended)
            elif track.suspended and free >= limit * RESUME_FACTOR:
                track.suspended = ""
                log.info("recorder.resumed", source=source.name)

    def apply_retention(self, now: float) -> None:
        """By age, then by size, day by day from the oldest: what need not go is not read. Raises OSError.

        What is left of sources that are not configured any more counts alike, and goes alike.
        """
        directory = self._settings.directory
        left = [Source(name, keep_days=self._settings.keep_days) for name in abandoned(self._settings)]
        sources = [*self._settings.sources, *left]
        if not self._settings.max_gb and not any(source.keep_days for source in sources):
            return
        days: dict[str, list[_Day]] = {}
        for source in sources:
            for manifest in manifests(directory / source.name):
                files = _files(manifest.parent)
                if files:
                    days.setdefault(manifest.parent.name, []).append(_Day(source, manifest, files))
        total = sum(sum(day.files.values()) for same in days.values() for day in same)
        limit = self._settings.max_gb * 1e9 or float("inf")
        for name in sorted(days):
            old = [day for day in days[name] if day.has_old(now)]
            for one in _candidates(old):
                if one.is_old(now):
                    _delete(one, "age", now)
                    total -= one.bytes
        for name in sorted(days):
            if total <= limit:
                return
            for one in sorted(_candidates(days[name]), key=lambda one: one.ended):
                if total > limit:
                    _delete(one, "size", now)
                    total -= one.bytes


def abandoned(settings: Settings) -> list[str]:
    """Sources that were recorded here once and are configured no more. Raises OSError."""
    configured = {source.name for source in settings.sources}
    with os.scandir(settings.directory) as entries:
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    others = sorted(name for name in folders if is_source_name(name) and name not in configured)
    return [name for name in others if any(manifests(settings.directory / name))]


def _files(folder: Path) -> dict[str, int]:
    """Sizes of recordings by name, without those that are pinned."""
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries}
    audio = [name for name in found if name.endswith(_SUFFIXES) and f"{name}.pin" not in found]
    return {name: found[name].stat().st_size for name in audio}


def _candidates(days: Iterable[_Day]) -> Iterator[_Candidate]:
    """Finished files that are still there. Those that a crash kept from being deleted go now."""
    for day in days:
        account = Account()
        read_day(day.manifest, account)
        for segment in account.segments:
            if segment.path.name not in day.files or not segment.path.exists():
                continue
            if segment.deleted:
                finish_deletion(segment)
            elif segment.closed is not None:
                yield _Candidate(segment, day.source, day.files[segment.path.name])


def _delete(one: _Candidate, why: str, now: float) -> None:
    """The manifest first: a file that a crash leaves behind is better than a loss without a line.

    But the peaks before it, which are no loss: on a disk that is full, the line needs their room.
    """
    path = one.segment.path
    peaks_of(path).unlink(missing_ok=True)
    one.segment.manifest.append({"kind": "deleted", "file": path.name, "reason": why, "time": iso(now)})
    path.unlink(missing_ok=True)
    log.info("recorder.file_deleted", file=str(path), reason=why)
