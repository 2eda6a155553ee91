"""What a person reads, and what a script does."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from pinna.doctor.causes import CAUSES, LINKS, Cause
from pinna.doctor.finding import Finding, Snapshot
from pinna.doctor.judge import first_broken
from pinna.doctor.looking import Report

_COLOURS: Final = {"ok": "32", "broken": "1;31", "not seen": "33", "waits": "2", "not applicable": "2"}
_WORDS: Final = {"not applicable": "-", "broken": "BROKEN"}
_INDENT: Final = " " * 32
_WIDTH: Final = 110
_TELLING: Final = 11  # letters of a quotation that is no mere name of a command
_NAME: Final = re.compile(r"(?<!{){\w+}")
_FILLED: Final = " (`sudo pinna doctor` fills in what is in braces, where it sees the fault)"


def plain(text: str) -> str:
    """On one line, and nothing that moves a cursor: names of files and devices are strangers' words."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def as_dict(report: Report) -> dict[str, Any]:
    first = first_broken(report.findings)
    return {
        "place": report.place,
        "exit_code": report.exit_code,
        "first_broken": first.cause if first else None,
        "error": str(report.error) if report.error else None,
        "findings": [asdict(finding) for finding in report.findings],
    }


def drawn(report: Report, *, colour: bool, saved: bool = False) -> str:
    """The chain, one link a line; under the first broken one, evidence and cure. `saved`: when and where."""
    if report.error:
        return _paint(f"{plain(report.place)}: {plain(str(report.error))}", "33", colour)
    snapshot = Snapshot(report.snapshot)
    title = f"{report.place}: {snapshot.text('system', 'name')}, sound as user {snapshot.user} has it"
    if saved:
        title += f", seen on {snapshot.text('system', 'host') or 'some machine'} at {snapshot.text('at')}"
    lines = [_paint(plain(title), "1", colour)]
    first = first_broken(report.findings)
    for number, finding in enumerate(report.findings):
        arm = "└" if number == len(report.findings) - 1 else "├"
        word = _paint(f"{_WORDS.get(finding.status, finding.status):<9}", _COLOURS[finding.status], colour)
        lines.append(f" {arm}─ {word} {LINKS[finding.link].title:<18} {plain(finding.title)}")
        if finding.status == "broken":
            lines += _details(finding, report, whole=finding is first, colour=colour)
    lines += verdict(report)
    return "\n".join(lines)


def _details(finding: Finding, report: Report, *, whole: bool, colour: bool) -> list[str]:
    if not whole:
        return [f"{_INDENT}(`pinna doctor --explain {finding.cause}`)"]
    lines = [f"{_INDENT}│ {plain(line)}" for line in finding.evidence]
    advice = plain(finding.advice) + (" (Likely, not certain.)" if finding.confidence == "likely" else "")
    lines += [
        _paint(f"{_INDENT}{line}", "1", colour) for line in textwrap.wrap(advice, _WIDTH - len(_INDENT))
    ]
    if finding.commands:
        inside = report.place.startswith("container ")
        lines.append(f"{_INDENT}As root{', in the container' if inside else ''}:")
        lines += [f"{_INDENT}    {command}" for command in finding.commands]
    return [*lines, f"{_INDENT}(cause: {finding.cause})"]


def verdict(report: Report) -> list[str]:
    """A line; none where something is broken, or nobody could look."""
    if report.error or first_broken(report.findings):
        return []
    unseen = [LINKS[finding.link].title for finding in report.findings if finding.status == "not seen"]
    if report.exit_code:
        root = Snapshot(report.snapshot).text("subject", "ran_as") == "root"
        return [
            f"Nothing broken was seen, but not all could be: {', '.join(unseen)}."
            + ("" if root else " As root, more can.")
        ]
    return ["Healthy: the microphone is heard." + (f" Not seen: {', '.join(unseen)}." if unseen else "")]


def summary(reports: list[Report]) -> str:
    """Of many places, one line: how many are well, and what ails the others."""
    ill = [
        f"{report.place} ({first.cause if (first := first_broken(report.findings)) else 'not all seen'})"
        for report in reports
        if report.exit_code
    ]
    healthy = f"{len(reports) - len(ill)} of {len(reports)} healthy"
    return plain(f"{healthy}; not: {', '.join(ill)}" if ill else healthy)


def changes(before: Iterable[Finding], after: Iterable[Finding], *, colour: bool) -> list[str]:
    """What broke, with evidence and cure, what got out of sight, and what is well again: an entry each."""
    old = {finding.link: finding for finding in before}
    entries = []
    for finding in after:
        was, worse = old[finding.link], finding.status in ("broken", "not seen")
        better = finding.status == "ok" and was.status in ("broken", "not seen")
        if not (better or worse) or (was.status, was.cause) == (finding.status, finding.cause):
            continue
        word = _paint(_WORDS.get(finding.status, finding.status), _COLOURS[finding.status], colour)
        lines = [f"{LINKS[finding.link].title}: {word}: {plain(finding.title)}"]
        if finding.status == "broken":
            lines += [f"│ {plain(line)}" for line in finding.evidence]
            lines += [plain(finding.advice), *(f"    {command}" for command in finding.commands)]
        entries.append("\n          ".join(lines))
    return entries


def explained(cause: Cause) -> str:
    """One entry of the catalogue, for a terminal."""
    parts = [f"{cause.id}: {cause.title}", "", f"What is seen: {cause.seen}", f"Cure: {cause.advice}"]
    text = "\n".join(textwrap.fill(part, _WIDTH - 10) if part else "" for part in parts)
    if not cause.commands:
        return text
    filled = _FILLED if any(_NAME.search(command) for command in cause.commands) else ""
    return "\n".join([text, "", f"As root{filled}:", *(f"    {command}" for command in cause.shown)])


def find(words: str) -> list[Cause]:
    """Causes by id; by words of what is seen of them, `sum ring buffer`; by a whole message that has such."""
    if words in CAUSES:
        return [CAUSES[words]]
    wanted = words.casefold()
    return [
        one
        for one in CAUSES.values()
        if wanted in f"{one.id} {one.title} {one.seen}".casefold() or _says(wanted, one.seen.casefold())
    ]


def _says(message: str, seen: str) -> bool:
    """Whether the message has a quotation or an error's number of `seen`; names and dots in it may differ."""
    quoted = [re.split(r"…|'.*?'", quotation) for quotation in re.findall(r"`([^`]+)`", seen)]
    whole = [parts for parts in quoted if max(map(len, parts)) >= _TELLING]
    numbers = re.findall(r"-\d{4,}", seen)
    return any(all(part in message for part in parts) for parts in whole) or any(
        re.search(rf"{number}(?!\d)", message) for number in numbers
    )


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour else text
