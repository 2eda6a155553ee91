"""Bearer tokens: from a file or the environment, never from a flag, never into a log."""

from __future__ import annotations

import functools
import re
import stat
from pathlib import Path
from typing import Final

import structlog

from pinna.errors import ConfigError

HUB_TOKEN: Final = "PINNA_HUB_TOKEN"  # noqa: S105  (the name of a variable)
HTTP_TOKEN: Final = "PINNA_HTTP_TOKEN"  # noqa: S105  (the name of a variable)
MAX_BYTES: Final = 8192

log = structlog.get_logger(__name__)


def read_secret(path: str, env_value: str | None) -> str | None:
    """The token of the environment if there is one, else of the file, else None. Read anew at each call.

    One newline at the end is not part of it. Raises ConfigError (permanent) for a file that is missing or
    unreadable, and for a token that is empty, longer than 8 KiB or not visible ASCII (RFC 6750).
    """
    if env_value:
        return _checked(env_value, "the token in the environment")
    if not path:
        return None
    name = f"the token file {path!r}"
    try:
        file = Path(path)
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe might never return
            raise _refused(name, "is not a file", "Give the path of a file that holds the token")
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 3)  # a token of that length and its newline still pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        cure = "Create it readable for the user Pinna runs as, or correct the key that names it"
        raise _refused(name, f"cannot be read: {reason}", cure) from error
    if mode & stat.S_IROTH:
        _warn_world_readable(path)
    return _checked(data.decode("utf-8", "replace"), name)


def _checked(text: str, name: str) -> str:
    token = text.removesuffix("\n").removesuffix("\r")
    cure = "Write the token there, alone on one line"
    if not token:
        raise _refused(name, "is empty", cure)
    if len(token) > MAX_BYTES:
        raise _refused(name, f"is longer than {MAX_BYTES} bytes", cure)
    if not re.fullmatch(r"[!-~]+", token):
        raise _refused(
            name, "has characters that no token has (spaces, control characters or non-ASCII)", cure
        )
    return token


def _refused(name: str, what: str, cure: str) -> ConfigError:
    return ConfigError(f"{name} {what}", hint=cure, permanent=True)


@functools.cache  # once for each file, not at each reconnection
def _warn_world_readable(path: str) -> None:
    log.warning("secret.world_readable", path=path, hint=f"chmod 0640 {path}")
