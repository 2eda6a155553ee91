"""What `pinna archive verify` says, for people and for scripts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pinna.errors import UsageError
from pinna.recorder.verify import Report, sources, verify


def verify_all(
    archive: Path, only: str | None, *, hashes: bool, progress: Callable[[str], None]
) -> list[Report]:
    """Raises StorageError or UsageError; `progress` hears of each file before it is read."""
    folders = [folder for folder in sources(archive) if only in (None, folder.name)]
    if not folders:
        raise UsageError(
            f"there is no recording of {only!r} in {archive}"
            if only
            else f"there are no recordings in {archive}",
            hint="Give the `directory` of the recorder's configuration",
        )
    return [
        verify(
            folder, hashes=hashes, progress=lambda path: progress(f"{path.parent.parent.name} {path.name}")
        )
        for folder in folders
    ]


def as_json(reports: list[Report]) -> str:
    rows = [{**asdict(report), "lost": report.lost, "proven": not report.wrong} for report in reports]
    return json.dumps(rows, indent=1)


def as_text(reports: list[Report]) -> str:
    return "\n".join(line for report in reports for line in _lines(report))


def _lines(report: Report) -> list[str]:
    hours = f"{report.seconds / 3600:.2f} h"
    gone = f", {report.deleted} more deleted since" if report.deleted else ""
    growing = ", one still being written" if report.open else ""
    lines = [f"{report.source}: {report.files} files, {hours}, {report.samples} samples{gone}{growing}"]
    by_reason = Counter(str(gap["reason"]) for gap in report.gaps)
    if by_reason:
        counted = ", ".join(f"{count} × {reason}" for reason, count in by_reason.most_common())
        lines.append(f"  {report.lost} samples lost in {len(report.gaps)} gaps: {counted}")
    for gap in report.gaps:
        about = "about " if gap.get("estimated") else ""
        lines.append(
            f"  gap  {gap.get('time', '?')}  {about}{gap.get('seconds', 0):g} s"
            f" ({gap['samples']} samples): {gap['reason']}, {gap.get('detail') or 'no more is known'}"
        )
    for jump in report.clock_jumps:
        lines.append(f"  clock set by {jump.get('jump_seconds')} s at {jump.get('time')}")
    lines += [f"  WRONG: {wrong}" for wrong in report.wrong]
    lines.append(
        "  proven: every sample is in a file or in a gap above" if not report.wrong else "  NOT proven"
    )
    return lines
