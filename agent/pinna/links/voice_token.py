"""The credentials of a voice service: a JWT that expires, and a command or endpoint for the next one."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeGuard

from pinna.errors import HubRefusedError

SPARE_SECONDS: Final = 60.0
"""A token that ends within this is as good as expired."""

LAST: Final = 4e9
"""The year 2096: later than anyone means, and a time that can be written."""

COMMAND_SECONDS: Final = 30.0
MAX_TOKEN_BYTES: Final = 8192


def expiry(token: str) -> float | None:
    """When a JWT ends (RFC 7519, `exp`), in Unix seconds; None if it does not say, or is no JWT.

    Read, not verified: only the service can do that.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        ends = float(claims["exp"]) if type(claims["exp"]) in (int, float) else math.nan
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return min(max(ends, 0.0), LAST) if math.isfinite(ends) else None


def is_token(given: object) -> TypeGuard[str]:
    """RFC 6750: visible ASCII."""
    return isinstance(given, str) and re.fullmatch(rf"[!-~]{{1,{MAX_TOKEN_BYTES}}}", given) is not None


class Credentials:
    """Gives a token that is not expired. `read` gives the configured one, of file or environment.

    Fresh ones come of `command`, if it is not empty, or else of `refresh`.
    """

    def __init__(
        self,
        read: Callable[[], str | None],
        command: tuple[str, ...],
        refresh: Callable[[], Awaitable[str]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._command = command
        self._fetch = self._run if command else refresh
        self._clock = clock
        self._fresh: str | None = None
        self._refused: set[str] = set()

    @property
    def renewable(self) -> bool:
        """Whether a fresh one can be had without people."""
        return self._fetch is not None

    async def token(self) -> str:
        """Raises HubRefusedError, permanent, with the way to a new one; ConfigError of an unreadable file."""
        given = self._read()
        for token in (given, self._fresh):
            if token is not None and self._holds(token):
                return token
        if self._fetch is None:
            raise self._none(given)
        self._fresh = await self._fetch()
        if not self._holds(self._fresh):
            whence = "voice.token_command printed" if self._command else "voice.refresh_url gave"
            raise _error(
                f"the token that {whence} is expired or refused, too",
                _COMMAND
                if self._command
                else "Is this device's clock right (`timedatectl`)? Or is the "
                "refresh token of another service?",
            )
        return self._fresh

    def refused(self, token: str) -> None:
        """The service does not want it: never give it out again."""
        self._refused.add(token)

    def _holds(self, token: str) -> bool:
        ends = expiry(token)
        return token not in self._refused and (ends is None or ends > self._clock() + SPARE_SECONDS)

    def _none(self, given: str | None) -> HubRefusedError:
        if given is None:
            return _error("there is no token for the voice service", _ANEW)
        if given in self._refused:
            return _error("the voice service refuses our token", _ANEW)
        ends = datetime.fromtimestamp(expiry(given) or 0, UTC)
        return _error(
            f"the token for the voice service expired at {ends:%Y-%m-%d %H:%M} UTC, by this device's clock",
            _ANEW,
        )

    async def _run(self) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it might hold the secret
            )
        except OSError as error:
            raise _error(f"voice.token_command cannot be run ({error.strerror})", _COMMAND) from None
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, _ = await process.communicate()
        except TimeoutError:
            raise _error(
                f"voice.token_command did not end within {COMMAND_SECONDS:.0f} s", _COMMAND, permanent=False
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise _error(
                f"voice.token_command ended with code {process.returncode}", _COMMAND, permanent=False
            )
        token = out[: MAX_TOKEN_BYTES + 1].decode("ascii", "replace").strip()
        if not is_token(token):
            raise _error("what voice.token_command printed is no token", _COMMAND)
        return token


_ANEW: Final = (
    "Write a new one into the file that `hub.token_file` names (or PINNA_HUB_TOKEN), or let "
    "`voice.token_command` or `voice.refresh_url` fetch it"
)
_COMMAND: Final = "Run it by hand as the user Pinna runs as: it must print the token and nothing else"


def _error(cause: str, hint: str, *, permanent: bool = True) -> HubRefusedError:
    return HubRefusedError(cause, hint=hint, permanent=permanent)
