"""What a person reads, and what a script does."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from pinna.doctor.causes import CAUSES, LINKS, Cause
from pinna.doctor.finding import Finding
from pinna.doctor.judge import first_broken
from pinna.doctor.looking import Report

_COLOURS: Final = {"ok": "32", "broken": "1;31", "not seen": "33", "waits": "2", "not applicable": "2"}
_WORDS: Final = {"not applicable": "-", "broken": "BROKEN"}
_INDENT: Final = " " * 32
_WIDTH: Final = 110


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


def drawn(report: Report, *, colour: bool) -> str:
    """The chain, one link a line; under the first broken one, evidence and cure."""
    if report.error:
        return _paint(f"{plain(report.place)}: {plain(str(report.error))}", "33", colour)
    system, subject = report.snapshot.get("system"), report.snapshot.get("subject")
    name = system.get("name", "") if isinstance(system, dict) else ""
    user = subject.get("user", "") if isinstance(subject, dict) else ""
    lines = [_paint(plain(f"{report.place}: {name}, sound as user {user} has it"), "1", colour)]
    first = first_broken(report.findings)
    for number, finding in enumerate(report.findings):
        arm = "└" if number == len(report.findings) - 1 else "├"
        word = _paint(f"{_WORDS.get(finding.status, finding.status):<9}", _COLOURS[finding.status], colour)
        lines.append(f" {arm}─ {word} {LINKS[finding.link].title:<18} {plain(finding.title)}")
        if finding.status == "broken":
            lines += _details(finding, report, whole=finding is first, colour=colour)
    lines += [*_verdict(report, first)]
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


def _verdict(report: Report, first: Finding | None) -> list[str]:
    if first:
        return []
    unseen = [LINKS[finding.link].title for finding in report.findings if finding.status == "not seen"]
    if report.exit_code:
        subject = report.snapshot.get("subject")
        root = isinstance(subject, dict) and subject.get("ran_as") == "root"
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
    """What is different, a line each; of what broke, its cure as well."""
    old = {finding.link: finding for finding in before}
    lines = []
    for finding in after:
        if (old[finding.link].status, old[finding.link].cause) != (finding.status, finding.cause):
            word = _paint(_WORDS.get(finding.status, finding.status), _COLOURS[finding.status], colour)
            cure = f" {plain(finding.advice)}" if finding.status == "broken" else ""
            lines.append(f"{LINKS[finding.link].title}: {word}: {plain(finding.title)}.{cure}")
    return lines


def explained(cause: Cause) -> str:
    """One entry of the catalogue, for a terminal."""
    parts = [f"{cause.id}: {cause.title}", "", f"What is seen: {cause.seen}", f"Cure: {cause.advice}"]
    text = "\n".join(textwrap.fill(part, _WIDTH - 10) if part else "" for part in parts)
    return text + (
        "\n\nAs root:\n" + "\n".join(f"    {command}" for command in cause.shown) if cause.commands else ""
    )


def find(words: str) -> list[Cause]:
    """Causes by id, or by words of what is seen of them: `-10000`, `sum ring buffer`."""
    if words in CAUSES:
        return [CAUSES[words]]
    wanted = words.casefold()
    return [one for one in CAUSES.values() if wanted in f"{one.id} {one.title} {one.seen}".casefold()]


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour else text
