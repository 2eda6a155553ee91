"""Before recording: files that a crash or power cut left open are mended, and the account made whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from pinna.recorder import formats
from pinna.recorder.clock import iso
from pinna.recorder.disk import peaks_of
from pinna.recorder.formats import Form
from pinna.recorder.manifest import Account, Manifest, Segment, days, drop_void_gaps, read_day

MOST_UNDRAWN: Final = 100
"""Files that are looked at: a day's and more. Whoever was stopped left the last of them undrawn."""

FEWEST_DAYS: Final = 2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """Of the last days: the account, finished files without a checksum, and those without a waveform."""

    account: Account
    unhashed: tuple[Segment, ...]
    undrawn: tuple[Segment, ...]


def recover(source_folder: Path) -> Recovered:
    """Raises OSError when the disk does not allow it.

    Reads days from the last recorded one back to the first that leaves nothing to be done, two at least,
    however many there are. That is enough: a file begins only when the line that closes the one before it is
    written, and files are hashed in the order in which they end; so what is unfinished is in the last days.
    Which these are, the index tells: the clock may have been set back. (A line torn elsewhere goes when the
    next is written, and retention ends its own deletions.)
    """
    account = Account()
    by_index = sorted((Manifest(path).last_begun(), path) for path in days(source_folder))
    for number, (_, path) in enumerate(reversed(by_index), start=1):
        day = Account()
        read_day(path, day)
        account.add(day)
        if number >= FEWEST_DAYS and not any(_is_unfinished(segment) for segment in day.segments):
            break
    account.sort()
    for wrong in account.wrong:
        log.error("recorder.manifest_damaged", cause=wrong)
    for segment in account.segments:
        if segment.closed is None:
            _close(account, segment)
        if segment.deleted:
            finish_deletion(segment)
    unhashed = [s for s in account.segments if not s.sha256 and not s.deleted and s.path.exists()]
    last = account.segments[-MOST_UNDRAWN:]
    undrawn = [s for s in last if s.sha256 and not s.deleted and s.samples and _is_undrawn(s.path)]
    return Recovered(account, tuple(unhashed), tuple(undrawn))


def finish_deletion(segment: Segment) -> None:
    """Of a file that a crash left behind, between the line and the deed. Raises OSError."""
    peaks_of(segment.path).unlink(missing_ok=True)
    segment.path.unlink(missing_ok=True)


def _is_unfinished(segment: Segment) -> bool:
    if segment.closed is None:
        return True
    return (bool(segment.deleted) or not segment.sha256) and segment.path.exists()


def _is_undrawn(path: Path) -> bool:
    """Of a stream that was stopped: hashed, but there was no time to decode it."""
    return path.exists() and not peaks_of(path).exists()


def _close(account: Account, segment: Segment) -> None:
    form = Form.of(segment.opened)
    samples, size = 0, 0
    if segment.path.exists():
        samples = formats.mend(segment.path, form).samples
        if samples:
            size = segment.path.stat().st_size
        else:
            peaks_of(segment.path).unlink(missing_ok=True)
            segment.path.unlink()  # not one whole sample, so nothing is deleted that could be heard
    drop_void_gaps(account, segment, samples)
    wall = float(segment.opened["wall"]) + (segment.end - segment.first + samples) / form.rate
    line = {"kind": "close", "file": segment.path.name, "samples": samples, "bytes": size}
    line |= {"wall": round(wall, 6), "time": iso(wall), "repaired": True}
    segment.manifest.append(line)
    segment.closed = line
    log.warning("recorder.file_mended", file=str(segment.path), samples=samples)
