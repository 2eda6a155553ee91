"""What a check found, and a snapshot's contents without surprises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pinna.doctor.causes import CAUSES

Status = Literal["ok", "broken", "not seen", "not applicable", "waits"]
Confidence = Literal["certain", "likely"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One link of the chain. `because` is the broken link that this one waits for.

    `commands` are the cure, as root, with every name filled in; `cause` is a key of CAUSES or empty.
    """

    link: str
    status: Status
    title: str = ""
    cause: str = ""
    evidence: tuple[str, ...] = ()
    advice: str = ""
    commands: tuple[str, ...] = ()
    confidence: Confidence = "certain"
    because: str = ""


def ok(link: str, title: str) -> Finding:
    return Finding(link, "ok", title)


def not_seen(link: str, why: str) -> Finding:
    return Finding(link, "not seen", why)


def not_applicable(link: str, why: str) -> Finding:
    return Finding(link, "not applicable", why)


def broken(cause_id: str, *evidence: str, confidence: Confidence = "certain", **names: object) -> Finding:
    """A finding by the catalogue, whose texts and commands `names` fill."""
    cause = CAUSES[cause_id]
    safe = {key: str(value) for key, value in names.items()}
    return Finding(
        cause.link,
        "broken",
        cause.title.format(**safe),
        cause.id,
        tuple(line for line in evidence if line),
        cause.advice.format(**safe),
        tuple(command for line in cause.commands if (command := _command(line, safe))),
        confidence,
    )


_WORD = re.compile(r"\w[\w@%+:.\-]*")
_QUOTED = re.compile(r"[\w/][\w@%+=:,./\- ]*")
_COMMAND = re.compile(r".+")


def _command(template: str, names: Mapping[str, str]) -> str:
    """The command; nothing where a name is not known, or, chosen by a stranger, more than a name to a shell.

    Names in quotes may have spaces and slashes; others are a part of a path, or of what sed replaces. {stop}
    and {remove} are commands already, made here of numbers and unit names.
    """
    for name, value in names.items():
        quoted = _QUOTED if f"'{{{name}}}" in template else _WORD
        harmless = _COMMAND if name in ("stop", "remove") else quoted
        if "{" + name + "}" in template and not harmless.fullmatch(value):
            return ""
    return template.format(**names)


class Snapshot:
    """Reads what `collect` wrote. Whatever has not the type it should have counts as not seen."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def __contains__(self, probe: str) -> bool:
        return self._data.get(probe) is not None

    def why(self, probe: str) -> str:
        """Why a probe's answer is missing."""
        reason = self.table("unseen").get(probe)
        return reason if isinstance(reason, str) else "the snapshot does not tell"

    def table(self, *path: str) -> dict[str, Any]:
        at = self._at(path)
        return at if isinstance(at, dict) else {}

    def tables(self, *path: str) -> list[dict[str, Any]]:
        return [each for each in self._list(path) if isinstance(each, dict)]

    def texts(self, *path: str) -> list[str]:
        return [each for each in self._list(path) if isinstance(each, str)]

    def text(self, *path: str) -> str:
        at = self._at(path)
        return at if isinstance(at, str) else ""

    def number(self, *path: str) -> int:
        at = self._at(path)
        return at if isinstance(at, int) else 0

    def said(self, child: str) -> list[str]:
        """All that a child's libraries printed to stderr, in order."""
        parts = self.table(child, "said")
        return [
            line
            for lines in parts.values()
            if isinstance(lines, list)
            for line in lines
            if isinstance(line, str)
        ]

    def _list(self, path: tuple[str, ...]) -> list[Any]:
        at = self._at(path)
        return at if isinstance(at, list) else []

    def _at(self, path: tuple[str, ...]) -> Any:
        at: Any = self._data
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        return at

    # what several checks ask

    @property
    def in_container(self) -> bool:
        return bool(self.text("system", "container"))

    @property
    def is_pinna(self) -> bool:
        """Whether role audio has been here: names and shared PCMs are expected."""
        return self.table("udev").get("rule") is True or any(
            file.get("pinna") for file in self.tables("alsa_files")
        )

    @property
    def user(self) -> str:
        return self.text("subject", "user") or "this user"

    @property
    def recorders(self) -> list[dict[str, Any]]:
        return [card for card in self.tables("cards") if card.get("records") is True]

    @property
    def microphone_card(self) -> dict[str, Any]:
        """The card that should be heard: `mic`, or the first that records."""
        named = [card for card in self.recorders if card.get("id") == "mic"]
        return (named or self.recorders or [{}])[0]

    @property
    def audio_devices(self) -> list[dict[str, Any]]:
        return [device for device in self.tables("usb") if device.get("audio") is True]
