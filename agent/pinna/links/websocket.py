"""The WebSocket link: a call to a voice service for each session.

At rest there is no connection. When the door opens it calls, sends what was said meanwhile, and goes on
live; when the door shuts it says good-bye.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import aiohttp
from yarl import URL

from pinna.config import Config, read_secret
from pinna.errors import HubAnswerError, HubRefusedError, HubUnreachableError
from pinna.flow.fanout import Subscription
from pinna.links import Door, LinkStats, News, Speaker
from pinna.links.ending import to_the_end
from pinna.links.voice_call import MAX_MESSAGE_BYTES, PATIENCE, Call, Patience, RejectedError, Wire
from pinna.links.voice_refresh import Refresher
from pinna.links.voice_token import Credentials


class WebSocketLink:
    """Implements `pinna.links.Link`. `read_token` is asked before each call; it may raise a PinnaError."""

    def __init__(
        self,
        config: Config,
        microphone: Subscription,
        speaker: Speaker,
        door: Door,
        read_token: Callable[[], str | None],
        news: News,
        *,
        patience: Patience = PATIENCE,
    ) -> None:
        self._config = config
        self._microphone = microphone
        self._speaker = speaker
        self._door = door
        self._news = news
        self._patience = patience
        self._shown = config.hub.url.partition("?")[0]
        self._credentials = Credentials(read_token, config.voice.token_command, _refresh(config))
        self._past = LinkStats()
        self._call: Call | None = None
        self._was_connected = False

    @property
    def stats(self) -> LinkStats:
        return self._call.add_to(self._past) if self._call else self._past

    async def run(self) -> None:
        try:
            while True:
                await self._credentials.token()  # what is wrong with it is better known before it is needed
                if not self._door.is_open:
                    self._news.ready()
                await self._door.opened()
                await self._talk()
        except Exception as error:
            self._past = replace(
                self._past,
                connection_failures=self._past.connection_failures + (not self._was_connected),
                last_error=str(error) or type(error).__name__,
            )
            raise

    async def _talk(self) -> None:
        """One call, from dialling to good-bye. Returns when the door is shut, or the service has hung up."""
        self._was_connected = False
        token = await self._credentials.token()
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.answer),
            cookie_jar=aiohttp.DummyCookieJar(),
            ws_response_class=Wire,
        ) as http:
            try:
                wire = await self._dial(http, token)
                call = Call(
                    self._config.voice, wire, self._shown, self._microphone, self._speaker, self._patience
                )
                try:
                    await call.begin(again=bool(self._past.connections))
                    self._was_connected = True
                    self._past = replace(self._past, connections=self._past.connections + 1, last_error=None)
                    self._call = call
                    self._news.connected()
                    await call.talk(self._door)
                finally:
                    self._call = None
                    self._past = replace(call.add_to(self._past), connected=False)
                    await to_the_end(call.end())
            except RejectedError as error:
                self._credentials.refused(token)
                renewable = self._credentials.renewable
                raise HubRefusedError(
                    f"the voice service at {self._shown} refuses our token ({error})",
                    hint="Write a new one into the file that `hub.token_file` names"
                    + ("; a fresh one is fetched now" if renewable else " (or PINNA_HUB_TOKEN)"),
                    permanent=not renewable,
                ) from None
        if call.hung_up:
            self._news.hung_up()
            if self._door.is_open:
                raise HubUnreachableError(
                    f"the voice service at {self._shown} ended the call",
                    hint="It is called again by itself",
                )

    async def _dial(self, http: aiohttp.ClientSession, token: str) -> Wire:
        config = self._config
        url = URL(config.hub.url)
        query = {
            "id_token": token,
            "client_name": config.voice.client_name,
            "usercontext": json.dumps({"timezone": config.voice.timezone}),
            **({"character": config.voice.character} if config.voice.character else {}),
        }
        scheme = "https" if url.scheme in ("https", "wss") else "http"
        try:
            async with asyncio.timeout(self._patience.answer):
                connected = await http.ws_connect(
                    url.update_query(query),
                    origin=str(url.with_scheme(scheme).origin()),
                    headers={"User-Agent": config.voice.client_name},
                    max_msg_size=MAX_MESSAGE_BYTES,
                    autoclose=False,
                )
        except TimeoutError:
            raise self._unreachable(f"does not answer within {self._patience.answer:.0f} s") from None
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403):
                raise RejectedError(str(error.status)) from None
            if error.status >= 500 or error.status in (408, 425, 429):
                raise self._unreachable(f"cannot serve us now ({error.status})") from None
            raise HubAnswerError(
                f"what answers at {self._shown} is no voice service ({error.status})",
                hint="Check `hub.url` and `hub.dialect`",
            ) from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            raise HubRefusedError(
                f"the voice service at {self._shown} cannot prove who it is",
                hint="Check its certificate, this device's clock, and `hub.url`",
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", None) or error
            reason = getattr(cause, "strerror", None) or type(cause).__name__
            raise self._unreachable(f"does not answer ({reason})") from None
        wire = cast(Wire, connected)  # aiohttp's annotation does not know of ws_response_class
        wire.keep_little()
        return wire

    def _unreachable(self, what: str) -> HubUnreachableError:
        return HubUnreachableError(
            f"the voice service at {self._shown} {what}",
            hint="Check the network, and `hub.url`; trying goes on while there is a session",
        )


def _refresh(config: Config) -> Callable[[], Awaitable[str]] | None:
    url, path = config.voice.refresh_url, config.voice.refresh_token_file
    return Refresher(url, lambda: read_secret(path, None)).fetch if url else None
