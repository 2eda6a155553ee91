"""The configuration of ISR, an earlier recorder of Icecast streams and sound cards, read as it is."""

from __future__ import annotations

import configparser
from typing import Any, Final

_GENERAL: Final = {"output_directory": "directory", "status_file": "status_file", "log_level": "log_level"}
_SAME: Final = frozenset({"type", "device", "url", "format", "channels", "split_minutes", "timezone"})
_OTHER_NAMES: Final = {"sample_rate": "rate", "samplerate": "rate", "rate": "rate", "bit_depth": "bits"}

Table = dict[str, Any]


class NotAnIniError(ValueError):
    """The text does not parse; says where."""


def read(text: str) -> tuple[Table, dict[str, Table], list[str]]:
    """([general], sections by name, notes): our keys, and one note for each key that has no counterpart.

    Every section but `[general]` is a source. What keys mean is judged later, with their values.
    """
    parser = configparser.ConfigParser(
        interpolation=None, default_section="\0none", inline_comment_prefixes=(";",)
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise NotAnIniError(" ".join(str(error).split())) from error
    notes: list[str] = []
    general: Table = {}
    sources: dict[str, Table] = {}
    for section in parser.sections():
        known: Table = {}
        for key, value in parser[section].items():
            name = _name(key, general=section == "general")
            if name is None:
                notes.append(f"[{section}] {key} is not understood and left out")
            elif value.strip():
                known[name] = value.strip()
        if section == "general":
            general = known
        else:
            sources["".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "_" for c in section)] = (
                known
            )
    return general, sources, notes


def _name(key: str, *, general: bool) -> str | None:
    if key in _SAME:
        return key
    return _OTHER_NAMES.get(key) or (_GENERAL.get(key) if general else None)
