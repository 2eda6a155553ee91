"""From snapshots to findings: pure, total, and never `ok` for what was not seen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pinna.doctor import hardware, programs, sound
from pinna.doctor.causes import LINKS
from pinna.doctor.finding import Finding, Snapshot, not_seen
from pinna.errors import SnapshotError

SCHEMA: Final = 1

_LEVELS: Final = 20  # of a snapshot: a real one has six

Check = Callable[[Snapshot, Snapshot | None], Finding]
_CHECKS: Final[Mapping[str, Check]] = {
    "power": hardware.power,
    "usb": hardware.usb,
    "driver": hardware.driver,
    "card": hardware.card,
    "alsa": sound.alsa,
    "access": sound.access,
    "sharing": sound.sharing,
    "sound": sound.sound,
    "portaudio": programs.portaudio,
    "agent": programs.agent,
    "hub": programs.hub,
}


def parse(text: str) -> dict[str, Any]:
    """A snapshot as `collect` writes it. Raises SnapshotError for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(
            f"this is no snapshot ({error})", hint="`pinna doctor --save FILE` makes one"
        ) from error
    if (
        not isinstance(data, dict)
        or data.get("schema") != SCHEMA
        or not isinstance(data.get("subject"), dict)
        or _deeper(data, _LEVELS)
    ):
        raise SnapshotError(
            f"this is no snapshot of schema {SCHEMA}",
            hint="`pinna doctor --save FILE` of this version makes one",
        )
    return data


def _deeper(value: Any, levels: int) -> bool:
    """Whether it is nested deeper, so that whoever walks through it would fall."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (not levels or any(_deeper(each, levels - 1) for each in inner))


def judge(data: Mapping[str, Any], host: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    """One finding for each link, in the chain's order. `host` is of the machine around a container's `data`.

    A link that is broken, or could not be seen, while one that it needs is broken, waits for that one.
    """
    snapshot, around = Snapshot(data), Snapshot(host) if host is not None else None
    found: dict[str, Finding] = {}
    for link in LINKS.values():
        try:
            finding = _CHECKS[link.id](snapshot, around)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            finding = not_seen(link.id, f"the snapshot's part about it is damaged ({type(error).__name__})")
        first = next((found[need] for need in link.needs if found[need].status == "broken"), None)
        if first is not None and finding.status in ("broken", "not seen"):
            finding = dataclasses.replace(
                Finding(link.id, "waits", f"waits for: {LINKS[first.link].title}"), because=first.link
            )
        found[link.id] = finding
    return tuple(found.values())


def first_broken(findings: tuple[Finding, ...]) -> Finding | None:
    return next((finding for finding in findings if finding.status == "broken"), None)
