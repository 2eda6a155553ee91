"""From a refresh token to a token: `grant_type=refresh_token` (RFC 6749, section 6), as Firebase has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from pinna.errors import HubAnswerError, HubRefusedError, HubUnreachableError
from pinna.links.voice_token import is_token

ANSWER_SECONDS: Final = 15.0
MAX_ANSWER_BYTES: Final = 65_536

DEAD: Final = (400, 401, 403)
"""The refresh token is expired or revoked, or the address's key is wrong: not the network's fault."""


class Refresher:
    """`url`: the endpoint with its key. `read` gives the refresh token, and may raise a PinnaError itself."""

    def __init__(self, url: str, read: Callable[[], str | None]) -> None:
        self._url = url
        self._shown = url.partition("?")[0]
        self._read = read
        self._next: tuple[str, str] | None = None  # the one of the file, and the one that has replaced it

    async def fetch(self) -> str:
        """A fresh token. Raises HubRefusedError (permanent), HubUnreachableError or HubAnswerError."""
        given = self._read()
        if given is None:
            raise HubRefusedError(
                "there is no refresh token for the voice service", hint=_ANEW, permanent=True
            )
        newest = self._next[1] if self._next and self._next[0] == given else given
        body = await self._ask(newest)
        token, replaced = body.get("id_token") or body.get("access_token"), body.get("refresh_token")
        if not is_token(token):
            raise self._nonsense("holds no id_token")
        if is_token(replaced):
            self._next = given, replaced
        return token

    async def _ask(self, refresh_token: str) -> dict[str, Any]:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http,
                http.post(self._url, data=form, allow_redirects=False) as answer,  # it carries a secret
            ):
                status, data = answer.status, await answer.content.read(MAX_ANSWER_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            cause = getattr(error, "os_error", None) or error
            reason = getattr(cause, "strerror", None) or type(cause).__name__
            raise HubUnreachableError(
                f"{self._shown}, which refreshes our token, does not answer ({reason})",
                hint="Check the network, and `voice.refresh_url`",
            ) from None  # the error's text might hold the key
        if status in DEAD:
            raise HubRefusedError(
                f"{self._shown} refuses our refresh token ({status})", hint=_ANEW, permanent=True
            )
        if status != 200:
            raise HubUnreachableError(
                f"{self._shown}, which refreshes our token, cannot do it now ({status})",
                hint="It is asked again by itself; if that goes on, check `voice.refresh_url`",
            )
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise self._nonsense("is no JSON object")
        return body

    def _nonsense(self, what: str) -> HubAnswerError:
        return HubAnswerError(f"the answer of {self._shown} {what}", hint="Check `voice.refresh_url`")


_ANEW: Final = (
    "Log in to the service anew, and write its refresh token into the file that `voice.refresh_token_file` "
    "names; check the key in `voice.refresh_url`"
)
