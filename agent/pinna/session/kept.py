"""What outlives the process: a mute and the log of sessions, written by one thread; and a token."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pinna.config import Config
from pinna.errors import StorageError
from pinna.session.sessions import Change
from pinna.session.states import State

MUTED: Final = "muted"
LOG: Final = "sessions.jsonl"
TOKEN: Final = "session_token"  # noqa: S105  (the name of a file)
SERVICE: Final = Path("/var/lib/pinna-agent")
"""The unit's StateDirectory=."""

LOG_BYTES: Final = 1_000_000
"""Then it becomes sessions.jsonl.1, in the place of the one before: some ten thousand sessions stay."""


def folder(config: Config) -> Path:
    """`session.state_dir`, or systemd's StateDirectory=, or the user's own place, by device (XDG)."""
    given = config.session.state_dir or os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  (no home: as is)
    return Path(home) / "pinna" / config.device_id


def folder_of_service(config: Config) -> Path:
    """The same from a shell, which has no $STATE_DIRECTORY: the installed service's, if there is one."""
    if not config.session.state_dir and SERVICE.is_dir():
        return SERVICE
    return folder(config)


def look(where: Path) -> tuple[bool, str]:
    """Whether the mute is on, and what is wrong with that, or nothing.

    What cannot be looked at counts as muted: an open microphone would be the worse error.
    """
    try:
        (where / MUTED).stat()
    except FileNotFoundError:
        return False, ""
    except OSError as error:
        return True, f"muted, because {where} cannot be read ({error.strerror}) and may hold a mute"
    return True, ""


def own_token(where: Path) -> str | None:
    """What people on this device change the session with, made at the first start. None: it cannot be kept.

    Readable for the agent's user and group (0640): members of the group need no sudo.
    """
    path = where / TOKEN
    try:
        where.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not path.exists() or not path.read_text("ascii").strip():
            fresh = path.with_name(TOKEN + ".new")
            fresh.unlink(missing_ok=True)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
                os.fchmod(file.fileno(), 0o640)  # whatever the umask
                os.fsync(file.fileno())
            fresh.replace(path)
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_token(where: Path) -> str | None:
    """The same for the command; None when there is none. Raises StorageError when only others may read it."""
    try:
        return (where / TOKEN).read_text("ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise StorageError(
            f"{where / TOKEN}, without which nobody changes the session, cannot be read ({error.strerror})",
            hint="Ask as a user who may read it: sudo pinna session",
        ) from error


@dataclass(slots=True)
class Entry:
    """One session as logged: times in UTC, `ended_by` and `seconds` None while it lasts."""

    began: str
    opened_by: str
    seconds: float | None = None
    ended_by: str | None = None
    errors: list[str] = field(default_factory=list)


class Keeper:
    """Follows the sessions and writes them down. `trouble` is called, in a thread, with what went wrong."""

    def __init__(self, where: Path, *, gated: bool, trouble: Callable[[str], None]) -> None:
        self._where = where
        self._gated = gated
        self._trouble = trouble
        self._thread = ThreadPoolExecutor(1, "pinna-session")
        self._entry: Entry | None = None
        self._began = datetime.now(UTC)

    def follow(self, change: Change) -> None:
        if State.MUTED in (change.before, change.after) and change.before is not change.after:
            self._thread.submit(self._keep_mute, change.after is State.MUTED)
        if change.before is State.SESSION and self._entry is not None:
            self._end(change.by)
        if change.after is State.SESSION and self._gated:
            self._began = datetime.now(UTC)
            self._entry = Entry(self._began.isoformat(timespec="seconds"), change.by)

    def error(self, cause: str) -> None:
        """Something went wrong during the session, if there is one."""
        if self._entry is not None and cause not in self._entry.errors:
            self._entry.errors.append(cause)

    def close(self) -> None:
        """Write what is open, and wait until all is written."""
        if self._entry is not None:
            self._end("stop of the agent")
        self._thread.shutdown()

    def _end(self, by: str) -> None:
        assert self._entry is not None
        self._entry.seconds = round((datetime.now(UTC) - self._began).total_seconds(), 1)
        self._entry.ended_by = by
        self._thread.submit(self._append, json.dumps(asdict(self._entry)) + "\n")
        self._entry = None

    def _keep_mute(self, muted: bool) -> None:
        """In the thread."""
        try:
            if muted:
                self._where.mkdir(mode=0o750, parents=True, exist_ok=True)
                (self._where / MUTED).touch()
            else:
                (self._where / MUTED).unlink(missing_ok=True)
            _sync(self._where)
        except OSError as error:
            left = "muted only until a restart" if muted else "muted again after a restart"
            self._trouble(f"the device is {left}: {self._where} cannot be written ({error.strerror})")

    def _append(self, line: str) -> None:
        """In the thread."""
        try:
            self._where.mkdir(mode=0o750, parents=True, exist_ok=True)
            path = self._where / LOG
            if path.exists() and path.stat().st_size > LOG_BYTES:
                path.replace(path.with_name(LOG + ".1"))
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            self._trouble(f"sessions cannot be logged in {self._where} ({error.strerror})")


def _sync(where: Path) -> None:
    """A mute must survive the plug being pulled, too."""
    if where.is_dir():
        handle = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_log(where: Path, last: int) -> tuple[list[dict[str, Any]], int]:
    """The latest sessions, oldest first, and how many lines tell of none: torn ones. Raises StorageError."""

    def lines() -> Iterator[str]:
        for name in (LOG + ".1", LOG):
            try:
                yield from (where / name).read_text("utf-8", "replace").splitlines()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(
                    f"the log of sessions {where / name} cannot be read ({error.strerror})",
                    hint="Ask as a user who may read it: sudo pinna sessions",
                ) from error

    entries, torn = [], 0
    for line in lines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if (
            isinstance(entry, dict)
            and {"began", "opened_by", "seconds", "ended_by", "errors"} <= entry.keys()
        ):
            entries.append(entry)
        else:
            torn += 1
    return entries[-last:], torn
