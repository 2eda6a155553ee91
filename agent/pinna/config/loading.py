"""From file, environment and flags to a `Config`, or to one `ConfigError` that lists everything wrong."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pinna.config.schema import KEYS, TABLES, Config, Value, build, value_of
from pinna.config.secret import HTTP_TOKEN, HUB_TOKEN
from pinna.errors import ConfigError

DEFAULT_PATH: Final = Path("/etc/pinna/pinna.toml")
MAX_BYTES: Final = 1 << 20

_NOT_KEYS: Final = frozenset({"PINNA_CONFIG", HUB_TOKEN, HTTP_TOKEN})

# The environment of the hub's own client, so that its unit files and compose files go on working.
_ALIASES: Final = {
    "NAILA_HUB_URL": "hub.url",
    "NAILA_DEVICE_ID": "device_id",
    "NAILA_INPUT_DEVICE": "audio.input",
    "NAILA_OUTPUT_DEVICE": "audio.output",
    "NAILA_RECONNECT_DELAY": "hub.reconnect_seconds",
    "NAILA_MAX_RECONNECT_DELAY": "hub.reconnect_max_seconds",
    "NAILA_LOG_LEVEL": "log.level",
}
_FIXED: Final = {"NAILA_SAMPLE_RATE": "48000", "NAILA_FRAME_DURATION_MS": "20", "NAILA_CHANNELS": "1"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force, and of every key where its value is from.

    A source is "default", "file F line N", "environment V" or "flag F". `path`: the file read, if any.
    """

    config: Config
    sources: Mapping[str, str]
    path: Path | None


@dataclass(frozen=True, slots=True)
class _Problem:
    where: str
    what: str
    cure: str


class _Reading:
    """What has been accepted so far, and what has not."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.sources: dict[str, str] = dict.fromkeys(KEYS, "default")
        self.problems: list[_Problem] = []

    def accept(self, name: str, given: object, source: str, *, text: bool = False) -> None:
        """`text`: from a variable or flag, still to be parsed."""
        key = KEYS[name]
        where = source.removeprefix("file ")
        try:
            self.values[name] = key.parse(given) if text and isinstance(given, str) else key.accept(given)
            self.sources[name] = source
        except ValueError as error:
            shown = "not allowed (and not repeated here)" if key.about.private else _shown(given)
            self.reject(where, f"{name} is {shown}", f"Give {error}")

    def reject(self, where: str, what: str, cure: str) -> None:
        self.problems.append(_Problem(where, what, cure))

    def finish(self, path: Path | None, environ: Mapping[str, str]) -> Loaded:
        if not self.problems:
            config = build(self.values)
            self._agree(config, environ)
        if self.problems:
            raise _error(self.problems)
        return Loaded(config, self.sources, path)

    def _agree(self, config: Config, environ: Mapping[str, str]) -> None:
        """What must hold between keys that are fine by themselves."""
        hub, http = config.hub, config.http
        if hub.reconnect_seconds > hub.reconnect_max_seconds:
            name, limit = "hub.reconnect_seconds", "hub.reconnect_max_seconds"
            source = self.sources[name] if self.sources[name] != "default" else self.sources[limit]
            what = (
                f"{name} is {value_of(config, name):g}, above {limit}, which is {value_of(config, limit):g}"
            )
            self.reject(source.removeprefix("file "), what, f"Raise {limit} or lower {name}")
        if (hub.dialect == "websocket") < hub.url.startswith("ws"):
            self.reject(
                self.sources["hub.url"].removeprefix("file "),
                f"hub.url is {_shown(hub.url)}, but hub.dialect is {hub.dialect}",
                'Give an http:// or https:// address, or set hub.dialect to "websocket"',
            )
        if config.session.mode == "wakeword" and not config.session.wake_words:
            self.reject(
                self.sources["session.wake_words"].removeprefix("file "),
                "session.wake_words is empty, and session.mode is wakeword",
                "Name at least one wake word",
            )
        if not is_loopback(http.host) and not http.token_file and not environ.get(HTTP_TOKEN):
            self.reject(
                self.sources["http.host"].removeprefix("file "),
                f"http.host is {http.host!r}, which others can reach, and no token protects it",
                f"Give http.token_file (or {HTTP_TOKEN}), or set http.host to 127.0.0.1",
            )


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Loaded:
    """Defaults, the file, NAILA_* aliases, PINNA_*, then `overrides` (dotted key -> text of its flag).

    The file: `path`, else $PINNA_CONFIG, else /etc/pinna/pinna.toml, and only that last one may be missing.
    An empty variable counts as not set. Raises ConfigError, permanent, and nothing else.
    """
    reading = _Reading()
    asked = path or (Path(environ["PINNA_CONFIG"]) if environ.get("PINNA_CONFIG") else None)
    found = asked or DEFAULT_PATH
    text = _read(found, missing_is_fine=asked is None)
    if text is not None:
        _from_toml(reading, found, text)
    _from_environment(reading, environ)
    for name, given in (overrides or {}).items():
        if name in KEYS:
            reading.accept(name, given, f"flag {KEYS[name].flag}", text=True)
        else:
            reading.reject("command line", f"there is no key {_shown(name)}", _did_you_mean(name, KEYS))
    return reading.finish(found if text is not None else None, environ)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read(path: Path, *, missing_is_fine: bool) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if missing_is_fine:
            return None
        raise _unreadable(path, "does not exist", "Give the path of an existing file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(path, f"cannot be read: {reason}", "Give a file that this user may read") from error
    if len(data) > MAX_BYTES:
        raise _unreadable(
            path, f"is larger than {MAX_BYTES} bytes", "Give a configuration, not something else"
        )
    try:
        return data.decode("utf-8-sig")  # editors of other systems leave a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, f"is not UTF-8 (line {line})", "Save it as UTF-8 text") from error


def _unreadable(path: Path, what: str, cure: str) -> ConfigError:
    return ConfigError(f"{_printable(str(path))} {what}", hint=cure, permanent=True)


def _from_toml(reading: _Reading, path: Path, text: str) -> None:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        what = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise _unreadable(path, f"is not valid TOML: {_printable(what)}", "Correct that line") from error
    lines = _line_numbers(text)

    def where(name: str) -> str:
        line = lines.get(name) or lines.get(name.partition(".")[0])
        return _printable(str(path)) + (f" line {line}" if line else "")

    for name, given in data.items():
        if name in TABLES and isinstance(given, dict):
            for inner, value in given.items():
                dotted = f"{name}.{inner}"
                if dotted in KEYS:
                    reading.accept(dotted, value, f"file {where(dotted)}")
                else:
                    cure = _did_you_mean(dotted, (key for key in KEYS if key.startswith(f"{name}.")))
                    reading.reject(where(dotted), f"there is no key {_shown(dotted)}", cure)
        elif name in TABLES:
            reading.reject(where(name), f"{name} is {_shown(given)}", f"Give a table: [{name}]")
        elif name in KEYS:
            reading.accept(name, given, f"file {where(name)}")
        elif isinstance(given, dict):
            reading.reject(where(name), f"there is no table {_shown(name)}", _did_you_mean(name, TABLES))
        else:
            reading.reject(where(name), f"there is no key {_shown(name)}", _did_you_mean(name, KEYS))


def _from_environment(reading: _Reading, environ: Mapping[str, str]) -> None:
    given = {name: text for name, text in environ.items() if text}
    by_variable = {key.variable: key.name for key in KEYS.values()}
    for name, fixed in _FIXED.items():
        if given.get(name, fixed).strip() != fixed:
            what = f"{name.removeprefix('NAILA_').lower()} is {_shown(given[name])}"
            reading.reject(
                f"environment {name}", what, f"Remove it: Pinna always uses {fixed}, as hubs expect"
            )
    for name, key in _ALIASES.items():
        if name in given and KEYS[key].variable not in given:
            reading.accept(key, given[name], f"environment {name}", text=True)
    for name in sorted(given):
        if name in by_variable:
            reading.accept(by_variable[name], given[name], f"environment {name}", text=True)
        elif name.startswith("PINNA_") and name not in _NOT_KEYS:
            cure = _did_you_mean(name, (*by_variable, *_NOT_KEYS))
            reading.reject("environment", f"there is no variable {_shown(name)}", cure)


def _line_numbers(text: str) -> dict[str, int]:
    """Dotted key -> its line. A plain scan: what it misses has no line number in messages, no more."""
    numbers: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([A-Za-z0-9_.\"' -]+?)\s*\]", line):
            table = header[1].replace('"', "").replace("'", "") + "."
            numbers.setdefault(table[:-1], number)
        elif assignment := re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line):
            numbers.setdefault(table + assignment[1].replace('"', "").replace("'", ""), number)
    return numbers


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    names = list(known)
    for candidate in names:
        if candidate.rpartition(".")[2] == name:
            return f"Did you mean {candidate}?"
    if close := difflib.get_close_matches(name[:80], names, n=1):
        return f"Did you mean {close[0]}?"
    return "Remove it; there are " + ", ".join(names)


def _shown(given: object) -> str:
    if isinstance(given, dict):
        return "a table"
    if isinstance(given, list):
        if any(isinstance(item, list | dict) for item in given):
            return "a list"
        text = f"[{', '.join(_shown(item) for item in given[:8])}{', ...' if len(given) > 8 else ''}]"
        return text if len(text) <= 200 else text[:196] + "...]"
    try:
        text = ascii(given) if isinstance(given, str) else repr(given)
    except ValueError:  # an integer too long for Python to print
        return "an enormous number"
    text = re.sub(r"(?<=[/:])\S*@", "***@", text)  # user name and password of an address
    return text if len(text) <= 80 else text[:76] + "...'"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _error(problems: list[_Problem]) -> ConfigError:
    if len(problems) == 1:
        (problem,) = problems
        return ConfigError(f"{problem.where}: {problem.what}", hint=problem.cure, permanent=True)
    listed = "".join(f"\n  {problem.where}: {problem.what}. {problem.cure}" for problem in problems)
    return ConfigError(
        f"{len(problems)} problems in the configuration:{listed}", hint="Correct them all", permanent=True
    )
