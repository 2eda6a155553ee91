"""Room on the disk: what is too old or too much is deleted, oldest first; a reserve stays free.

A file with `NAME.pin` beside it is never deleted, nor is one that is still being written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from pinna.recorder.clock import iso
from pinna.recorder.disk import free_bytes, peaks_of
from pinna.recorder.manifest import Segment, read_account
from pinna.recorder.settings import Settings, Source
from pinna.recorder.track import Track

RETENTION_SECONDS: Final = 60.0
RESUME_FACTOR: Final = 1.1
"""Recording goes on when a tenth more than the reserve is free, not at every byte."""

STEP: Final = 0.05
"""Between two priorities, as a part of the reserve: the least important stop first."""

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


class Keeper:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next = 0.0
        self._free = 0

    def disk(self) -> dict[str, int]:
        return {"free_bytes": self._free, "reserve_bytes": self._settings.reserve_mb << 20}

    def look(self, tracks: Sequence[tuple[Source, Track]]) -> None:
        """Called every few seconds."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + RETENTION_SECONDS
            try:
                self.apply_retention(time.time())
            except OSError as error:
                log.error("recorder.retention_failed", cause=str(error))
        self._free = free_bytes(self._settings.directory)
        self.hold_reserve(tracks, self._free)

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
        """By age, then by size. Raises OSError."""
        if not self._settings.max_gb and not any(source.keep_days for source in self._settings.sources):
            return
        candidates = list(self._candidates())
        kept = []
        for one in candidates:
            if one.source.keep_days and one.ended < now - one.source.keep_days * 86_400:
                _delete(one, "age", now)
            else:
                kept.append(one)
        limit = self._settings.max_gb * 1e9
        total = sum(one.bytes for one in kept)
        for one in sorted(kept, key=lambda one: one.ended):
            if not limit or total <= limit:
                return
            _delete(one, "size", now)
            total -= one.bytes

    def _candidates(self) -> Iterable[_Candidate]:
        for source in self._settings.sources:
            for segment in read_account(self._settings.directory / source.name).segments:
                path = segment.path
                finished = segment.closed is not None and not segment.deleted and path.exists()
                if finished and not path.with_name(path.name + ".pin").exists():
                    yield _Candidate(segment, source, path.stat().st_size)


def _delete(one: _Candidate, why: str, now: float) -> None:
    """The manifest first: a file that a crash leaves behind is better than a loss without a line."""
    path = one.segment.path
    one.segment.manifest.append({"kind": "deleted", "file": path.name, "reason": why, "time": iso(now)})
    peaks_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    log.info("recorder.file_deleted", file=str(path), reason=why)
