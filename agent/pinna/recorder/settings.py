"""What is recorded, and where: frozen dataclasses <- TOML, or an INI file of ISR's kind (see `isr`).

`[general]` holds what belongs to all, and defaults that every `[sources.NAME]` inherits.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pinna.errors import ConfigError
from pinna.recorder import isr

DEFAULT_PATH: Final = Path("/etc/pinna/recorder.toml")
MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One section. `priority`: the higher, the later a full disk stops it; `keep_days` 0: for ever."""

    name: str
    type: str = "soundcard"
    device: str = "default"
    url: str = ""
    format: str = "flac"
    rate: int = 48_000
    channels: int = 1
    bits: int = 16
    split_minutes: int = 60
    timezone: str = ""
    priority: int = 0
    keep_days: float = 0.0

    @property
    def zone(self) -> ZoneInfo | None:
        return ZoneInfo(self.timezone) if self.timezone else None


@dataclass(frozen=True, slots=True)
class Settings:
    """`max_gb` 0: no limit but the reserve. `notes`: what of an ISR file was not understood.

    `keep_days` is what sources inherit, and what holds for those that are left in the archive alone.
    """

    directory: Path = Path("/var/lib/pinna/archive")
    status_file: Path = Path("/run/pinna-recorder/status.json")
    reserve_mb: int = 500
    max_gb: float = 0.0
    keep_days: float = 0.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()


Parse = Callable[[object], Any]


def _whole(low: int, high: int) -> Parse:
    def parse(given: object) -> int:
        number = int(given) if isinstance(given, str) and re.fullmatch(r"-?\d{1,9}", given) else given
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


def _number(given: object) -> float:
    try:
        number = float(given) if isinstance(given, str | int | float) else -1.0
    except ValueError:
        number = -1.0
    if isinstance(given, bool) or not 0 <= number < 1e6:
        raise ValueError("a number from 0 up")
    return number


def _one_of(*choices: str | int) -> Parse:
    def parse(given: object) -> str | int:
        for choice in choices:
            if not isinstance(given, bool) and str(given).strip().lower() == str(choice):
                return choice
        raise ValueError("one of " + ", ".join(map(str, choices)))

    return parse


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.strip() or not given.isprintable():
        raise ValueError("a text")
    return given.strip()


def _path(given: object) -> Path:
    if not isinstance(given, str) or not given.startswith("/") or "\0" in given:
        raise ValueError("an absolute path")
    return Path(given)


def _split(given: object) -> int:
    minutes: int = _whole(1, 1440)(given)
    if 1440 % minutes:
        raise ValueError("a number of minutes that divides a day: 1, 5, 10, 15, 30, 60, 120 … 1440")
    return minutes


def _zone(given: object) -> str:
    name = _text(given)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("a time zone such as Europe/Berlin") from error
    return name


def _url(given: object) -> str:
    text = _text(given)
    try:
        url = urlsplit(text)
        fine = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        fine = False
    if not fine or re.search(r"\s", text):
        raise ValueError("an http:// or https:// address")
    return text


_GENERAL: Final[Mapping[str, Parse]] = {
    "directory": _path,
    "status_file": _path,
    "reserve_mb": _whole(0, 100_000_000),
    "max_gb": _number,
    "log_level": _one_of("debug", "info", "warning", "error"),
}
_SOURCE: Final[Mapping[str, Parse]] = {
    "type": _one_of("soundcard", "stream"),
    "device": _text,
    "url": _url,
    "format": _one_of("wav", "flac", "opus"),
    "rate": _whole(4000, 768_000),
    "channels": _whole(1, 8),
    "bits": _one_of(16, 24),
    "split_minutes": _split,
    "timezone": _zone,
    "priority": _whole(-100, 100),
    "keep_days": _number,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_source_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def load(path: Path | None) -> Settings:
    """Raises ConfigError, permanent, that lists everything wrong; and nothing else."""
    found = path or DEFAULT_PATH
    try:
        with found.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data[:MAX_BYTES].decode("utf-8-sig")
    except OSError as error:
        raise _refused(
            f"{found} cannot be read: {error.strerror}", "Give the path of a configuration"
        ) from error
    except UnicodeDecodeError as error:
        raise _refused(f"{found} is not UTF-8", "Save it as UTF-8 text") from error
    if len(data) > MAX_BYTES:
        raise _refused(
            f"{found} is larger than {MAX_BYTES} bytes", "Give a configuration, not something else"
        )
    if found.suffix == ".ini":
        try:
            general, sources, notes = isr.read(text)
        except isr.NotAnIniError as error:
            raise _refused(f"{found} is no INI file: {error}", "Correct that line") from error
        return _build(str(found), general, sources, tuple(notes))
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"{found} is not valid TOML: {error}", "Correct that line") from error
    return _from_toml(str(found), tables)


def _from_toml(where: str, tables: dict[str, Any]) -> Settings:
    general, sources = tables.pop("general", {}), tables.pop("sources", {})
    for name in tables:
        raise _refused(f"{where}: there is no table {name!r}", "There are [general] and [sources.NAME]")
    named = [("general", general), ("sources", sources)]
    if isinstance(sources, dict):
        named += [(f"sources.{name}", table) for name, table in sources.items()]
    wrong = [name for name, table in named if not isinstance(table, dict)]
    if wrong:
        raise _refused(f"{where}: {wrong[0]} is no table", f"Write [{wrong[0]}]")
    return _build(where, general, sources, ())


def _build(
    where: str, general: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]], notes: tuple[str, ...]
) -> Settings:
    problems: list[str] = []
    shared = _accept(f"{where} [general]", general, {**_GENERAL, **_SOURCE}, problems)
    built = []
    for name, table in sources.items():
        section = f"{where} [sources.{name}]"
        if not is_source_name(name):
            problems.append(f"{section}: give it a name of letters, digits, '.', '_' and '-'")
            continue
        own = _accept(section, table, _SOURCE, problems)
        inherited = {key: value for key, value in shared.items() if key in _SOURCE}
        source = Source(name, **{**inherited, **own})
        problems += [f"{section}: {problem}" for problem in _disagreements(source)]
        built.append(source)
    if not sources:
        problems.append(f'{where}: there is no source. Add [sources.kitchen] with device = "shared_mic"')
    if problems:
        cause, *more = problems
        listed = "".join(f"\n  {problem}" for problem in more)
        raise _refused(cause + listed, "Correct that" if not more else "Correct them all")
    common = {
        key: value for key, value in shared.items() if key in {field.name for field in fields(Settings)}
    }
    return Settings(**common, sources=tuple(built), notes=notes)


def _accept(
    section: str, table: Mapping[str, Any], keys: Mapping[str, Parse], problems: list[str]
) -> dict[str, Any]:
    values = {}
    for name, given in table.items():
        if name not in keys:
            close = difflib.get_close_matches(name, keys, n=1)
            cure = f"did you mean {close[0]}?" if close else "there are " + ", ".join(keys)
            problems.append(f"{section}: there is no key {name!r}; {cure}")
            continue
        try:
            values[name] = keys[name](given)
        except ValueError as error:
            shown = "not allowed" if name == "url" else repr(given)[:80]  # it may hold a password
            problems.append(f"{section}: {name} is {shown}; give {error}")
    return values


def _disagreements(source: Source) -> list[str]:
    if source.type == "stream":
        return [] if source.url else ["a stream needs its url"]
    if source.format == "opus" and source.rate not in (8000, 12_000, 16_000, 24_000, 48_000):
        return [f"opus has no rate {source.rate}; give 48000, 24000, 16000, 12000 or 8000"]
    if source.format == "opus" and source.bits != 16:
        return ["opus takes 16 bits; remove bits"]
    return []


def _refused(cause: str, hint: str) -> ConfigError:
    return ConfigError(cause, hint=hint, permanent=True)
