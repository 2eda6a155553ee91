"""Proof of an archive against its manifests: every file whole, every sample in a file or in a gap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pinna.errors import StorageError
from pinna.recorder import formats
from pinna.recorder.formats import Form
from pinna.recorder.formats.form import SUFFIXES
from pinna.recorder.manifest import NAME, Account, Segment, days, read_account


@dataclass(slots=True)
class Report:
    """Of one source. `wrong`: one sentence for each thing that does not fit; empty: proven."""

    source: str
    files: int = 0
    deleted: int = 0
    open: int = 0
    samples: int = 0
    seconds: float = 0.0
    gaps: list[dict[str, Any]] = field(default_factory=list)
    clock_jumps: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return sum(int(gap["samples"]) for gap in self.gaps)


def sources(archive: Path) -> list[Path]:
    """Folders that hold a manifest. Raises StorageError."""
    try:
        return sorted(folder for folder in archive.iterdir() if folder.is_dir() and any(days(folder)))
    except OSError as error:
        raise StorageError(
            f"the archive {archive} cannot be read: {error.strerror}",
            hint="Give the folder that holds the sources",
        ) from error


def verify(source_folder: Path, *, hashes: bool, progress: Callable[[Path], None]) -> Report:
    """`hashes`: read every file through; without, only sizes, lengths and the account are looked at."""
    account = read_account(source_folder)
    report = Report(source_folder.name, wrong=list(account.wrong))
    for segment in account.segments:
        progress(segment.path)
        report.wrong += _faults(segment, hashes=hashes)
        if segment.deleted:
            report.deleted += 1
        elif segment.closed is None:
            report.open += 1
        elif segment.samples:
            report.files += 1
        report.samples += segment.samples
        report.seconds += segment.samples / int(segment.opened["rate"])
    report.wrong += _holes(account)
    report.wrong += _strangers(source_folder, account)
    report.gaps = account.gaps
    report.clock_jumps = account.clocks
    return report


def _faults(segment: Segment, *, hashes: bool) -> Iterator[str]:
    closed, path = segment.closed, segment.path
    if segment.deleted or closed is None or not segment.samples:
        return  # gone on purpose, still growing, or nothing was saved of it
    try:
        size = path.stat().st_size
        if size != closed["bytes"]:
            yield f"{path} has {size} bytes; the manifest says {closed['bytes']}"
            return
        held = formats.content(path, Form.of(segment.opened)).samples
        if held != segment.samples:
            yield f"{path} holds {held} samples; the manifest says {segment.samples}"
        if hashes and segment.sha256 and sha256(path) != segment.sha256:
            yield f"{path} has been changed: its SHA-256 is not the manifest's"
    except FileNotFoundError:
        yield f"{path} is missing"
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"
    if hashes and not segment.sha256:
        yield f"{path} has no SHA-256 yet: the recorder writes it when it runs"


def _holes(account: Account) -> Iterator[str]:
    """Files and the gaps between them must follow each other sample by sample."""
    spans = [(segment.first, segment.end, segment.path.name) for segment in account.segments]
    spans += [
        (int(gap["first"]), int(gap["first"]) + int(gap["samples"]), f"a gap ({gap['reason']})")
        for gap in account.gaps
        if "file" not in gap
    ]
    spans.sort()
    for (_, end, before), (first, _, after) in pairwise(spans):
        if first != end:
            what = (
                f"{first - end} samples are unaccounted for"
                if first > end
                else f"{end - first} samples overlap"
            )
            yield f"between {before} and {after} {what}"


def _strangers(source_folder: Path, account: Account) -> Iterator[str]:
    known = {segment.path for segment in account.segments}
    for path in sorted(source_folder.glob("????-??-??/*")):
        if path.suffix in SUFFIXES.values() and path not in known:
            yield f"{path} is not in {NAME}"


def sha256(path: Path) -> str:
    """Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
