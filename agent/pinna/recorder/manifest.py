"""The account of what was recorded: JSON lines, one file per source and day, only ever appended to.

    open     a file begins: `first`, the index of its first sample; `wall` and `mono` of that sample; the form
    gap      samples that are nowhere: `reason`, `first`, `samples`; inside a file also `file` and `offset`
    title    what a stream calls what it plays from here on (`open` has the title it begins with)
    clock    the wall clock was set: `jump_seconds`
    close    a file ends: `samples`, `bytes`; `repaired` when it was cut off and mended later
    sha256   what the finished file hashes to
    deleted  a file that retention removed, and why

The index counts every sample since the source was first recorded, captured or lost: a file, the gaps in it,
and the gaps between it and the next follow each other without a hole. Verification holds just that.
Times: `wall` in seconds since the epoch, `mono` in seconds since the boot that `boot` names.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

NAME: Final = "manifest.jsonl"
_OPENED: Final = b'{"kind": "open",'
_TAIL_BYTES: Final = 4096
_ONE_AT_A_TIME: Final = threading.Lock()
"""Three threads append to one file: who takes half a line back must not take another's with it."""

REASONS: Final = ("xrun", "unplug", "disconnect", "disk", "overload", "restart", "unreported")

Line = dict[str, Any]


class Manifest:
    """One day of one source. Appending is on the disk when it returns; raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            with _ONE_AT_A_TIME:
                before = _drop_torn_line(fd)
                if os.write(fd, data) != len(data):
                    os.ftruncate(fd, before)  # a full disk: half a line is worse than none
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def read(self) -> tuple[list[Line], list[str]]:
        """The lines, and what is wrong with others. The torn last line of a power cut is neither."""
        lines: list[Line] = []
        wrong: list[str] = []
        *whole, _torn = self.path.read_bytes().split(b"\n")
        for number, text in enumerate(whole, start=1):
            try:
                line = json.loads(text)
                if not isinstance(line, dict) or not isinstance(line.get("kind"), str):
                    raise ValueError("no line of a manifest")
            except ValueError as error:
                wrong.append(f"{self.path} line {number}: {error}")
            else:
                lines.append(line)
        return lines, wrong

    def last_begun(self) -> int:
        """Index at which the last of its files begins; −1 without one. Reads the end, and little of it."""
        with self.path.open("rb") as file:
            size, reach = file.seek(0, os.SEEK_END), _TAIL_BYTES
            while True:
                begin = max(0, size - reach)
                lines = os.pread(file.fileno(), size - begin, begin).split(b"\n")
                for text in reversed(
                    lines[bool(begin) : -1]
                ):  # the first may be half a line, the last is torn
                    if text.startswith(_OPENED):
                        with contextlib.suppress(KeyError, TypeError, ValueError):
                            return int(json.loads(text)["first"])
                if not begin:
                    return -1
                reach *= 8


def _drop_torn_line(fd: int) -> int:
    """What a power cut left of a last line; the length of the rest. Raises OSError."""
    size = os.fstat(fd).st_size
    if not size or os.pread(fd, 1, size - 1) == b"\n":
        return size
    whole = os.pread(fd, size, 0).rfind(b"\n") + 1
    os.ftruncate(fd, whole)
    return whole


@dataclass(slots=True)
class Segment:
    """All that the manifest says of one file."""

    folder: Path
    opened: Line
    closed: Line | None = None
    sha256: str = ""
    deleted: Line | None = None
    gaps: list[Line] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / str(self.opened["file"])

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.folder / NAME)

    @property
    def first(self) -> int:
        return int(self.opened["first"])

    @property
    def samples(self) -> int:
        return int(self.closed["samples"]) if self.closed else 0

    @property
    def end(self) -> int:
        """The index after its last sample; what was lost inside counts."""
        return self.first + self.samples + sum(int(gap["samples"]) for gap in self.gaps)


@dataclass(slots=True)
class Account:
    """Days of one source, in the order they were written."""

    segments: list[Segment] = field(default_factory=list)
    gaps: list[Line] = field(default_factory=list)
    clocks: list[Line] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The index after everything that is accounted for."""
        between = [int(gap["first"]) + int(gap["samples"]) for gap in self.gaps if "file" not in gap]
        return max([0, *between, *(segment.end for segment in self.segments)])

    def add(self, other: Account) -> None:
        self.segments += other.segments
        self.gaps += other.gaps
        self.clocks += other.clocks
        self.wrong += other.wrong

    def sort(self) -> None:
        """In the order in which they were recorded, whatever the clock said."""
        self.segments.sort(key=lambda segment: segment.first)


def days(source_folder: Path) -> Iterator[Path]:
    """Manifests of a source, oldest first."""
    yield from sorted(source_folder.glob(f"????-??-??/{NAME}"))


def read_account(source_folder: Path) -> Account:
    account = Account()
    for path in days(source_folder):
        read_day(path, account)
    account.sort()
    return account


def drop_void_gaps(account: Account, segment: Segment, samples: int) -> None:
    """Of a file that was cut off, gaps after what was saved: the one until the restart spans them."""
    for gap in [gap for gap in segment.gaps if int(gap["offset"]) > samples]:
        segment.gaps.remove(gap)
        account.gaps.remove(gap)


def read_day(path: Path, account: Account) -> None:
    """Add one manifest to the account. Raises OSError."""
    lines, wrong = Manifest(path).read()
    account.wrong += wrong
    by_file: dict[str, Segment] = {}
    for line in lines:
        kind, name = line["kind"], str(line.get("file", ""))
        try:
            if kind == "open":
                if name in ("", ".", "..") or "/" in name:
                    raise ValueError(f"the name of a file in its folder: {name!r}")
                segment = by_file[name] = Segment(path.parent, line)
                int(line["first"])
                account.segments.append(segment)
            elif kind == "close":
                int(line["samples"])
                by_file[name].closed = line
            elif kind == "sha256":
                by_file[name].sha256 = str(line["sha256"])
            elif kind == "deleted":
                by_file[name].deleted = line
            elif kind == "gap":
                int(line["first"]), int(line["samples"])
                account.gaps.append(line)
                if name:
                    int(line["offset"])
                    by_file[name].gaps.append(line)
            elif kind == "clock":
                account.clocks.append(line)
        except (KeyError, TypeError, ValueError) as error:
            account.wrong.append(f"{path}: a line of kind {kind!r} lacks {error}")
    for segment in by_file.values():
        if segment.closed is not None:
            drop_void_gaps(account, segment, segment.samples)
