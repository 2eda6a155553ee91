"""The configuration for human eyes: where each value is from, and an example file."""

from __future__ import annotations

from typing import NamedTuple

from pinna.config.loading import Loaded
from pinna.config.schema import KEYS, Config, Key, Value, value_of


class Setting(NamedTuple):
    """One line of `pinna config show`. No value is ever a secret, only the name of a file with one."""

    key: str
    value: Value
    source: str
    help: str


def describe(loaded: Loaded) -> list[Setting]:
    """Every key with its value in force and where that is from, in the order of the file."""
    return [
        Setting(name, value_of(loaded.config, name), loaded.sources[name], key.help)
        for name, key in KEYS.items()
    ]


def as_toml(config: Config) -> str:
    """A commented configuration file that says the same: defaults are there, but commented out.

    The device's own name is always given, for its default is another on each machine.
    """
    lines: list[str] = []
    table = ""
    for name, key in KEYS.items():
        of, _, last = name.rpartition(".")
        if of != table:
            lines += [f"[{of}]", ""]
            table = of
        value = value_of(config, name)
        mark = "# " if value == key.default and name != "device_id" else ""
        lines += [f"# {key.help}", f"# {_note(key)}", f"{mark}{last} = {_toml(value)}", ""]
    return "\n".join(lines)


def _note(key: Key) -> str:
    allowed = key.allowed[0].upper() + key.allowed[1:]
    return f"{allowed}. In the environment: {key.variable}"


def _toml(value: Value) -> str:
    """Basic strings suffice: no accepted value has control characters."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
