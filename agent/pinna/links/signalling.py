"""How an offer gets to a hub and the answer back: HTTP, in the two dialects hubs speak.

`connect`: POST {url}/connect, JSON in and out; GET {url}/health tells that the hub lives.
`whip`: POST {url}, SDP in and out (RFC 9725); the session is a resource of its own, deleted at the end.

Whatever answers is a stranger: sizes and times are bounded, redirects are followed by hand, and the token
goes to the configured origin alone. Texts of errors name the hub without its credentials.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from pinna.config import HubConfig
from pinna.errors import HubAnswerError, HubRefusedError, HubUnreachableError
from pinna.frame import SAMPLE_RATE
from pinna.links.answer import check_answer

ANSWER_SECONDS: Final = 10.0
"""For everything: connecting, redirects, and the last byte of the answer."""

CONNECT_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 256 * 1024
"""An answer is a few kilobytes."""

MAX_REDIRECTS: Final = 3
GOODBYE_SECONDS: Final = 1.0
ALIVE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class IceServer:
    """One server of a WHIP answer's `Link: <stun:...>; rel="ice-server"` header (RFC 9725 4.6)."""

    url: str
    username: str | None = None
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class _Response:
    url: URL
    status: int
    headers: Any  # case-insensitive multi-dict
    body: bytes


class Signalling:
    """One session with one hub: `offer` opens it, `end` ends it. `http` belongs to the caller."""

    def __init__(
        self, http: aiohttp.ClientSession, config: HubConfig, device_id: str, token: str | None
    ) -> None:
        """Raises HubRefusedError (permanent) for an address or a token that cannot be right."""
        self._http = http
        self._whip = config.dialect == "whip"
        self._device_id = device_id
        self._url = hub_url(config)
        self._origin = self._url.origin()
        self._shown = shown(config)
        self._resource: URL | None = None  # WHIP: the session
        self._since = 0.0
        self.ice_servers: tuple[IceServer, ...] = ()
        self._token = token.strip() if token else ""
        if self._token and not re.fullmatch(r"[\x21-\x7e]+", self._token):
            raise HubRefusedError(
                "the hub token holds characters that no HTTP header can",
                hint="Write the token, and nothing else, into the token file",
                permanent=True,
            )
        if self._token:  # two ways to say who we are are one too many for HTTP: the token it is
            self._url = self._url.with_user(None)

    async def offer(self, sdp: str) -> str:
        """The hub's answer, checked. Raises HubUnreachableError, HubRefusedError, HubAnswerError."""
        if self._whip:
            response = await self._post(
                self._url, sdp.encode(), {"Content-Type": "application/sdp", "Accept": "application/sdp"}
            )
            self._since = time.monotonic()
            if location := response.headers.get("Location"):
                self._resource = _join(response.url, location)
            self.ice_servers = _ice_servers(response.headers.getall("Link", []))
            return check_answer(self._text(response), self._shown)
        body = {
            "device_id": self._device_id,
            "sdp": sdp,
            "preferred_output_sample_rate": SAMPLE_RATE,
            "supported_output_codecs": ["pcm_s16le"],
        }
        response = await self._post(
            self._url / "connect", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            answer = json.loads(self._text(response))["sdp"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._nonsense('is not JSON with an "sdp" in it') from None
        self._since = time.monotonic()
        return check_answer(answer, self._shown)

    async def alive(self) -> bool:
        """Whether the hub still has this session, as far as HTTP can tell; False when it does not answer.

        A hub that is up for less time than the session has been restarted and lost it.
        """
        url = (self._resource or self._url) if self._whip else self._url / "health"
        try:
            async with (
                asyncio.timeout(ALIVE_SECONDS),
                self._http.get(url, headers=self._headers(url), allow_redirects=False) as response,
            ):
                if self._whip:  # RFC 9725 4.2: a resource that is there may well refuse GET
                    return response.status < 500 and not (self._resource and response.status in {404, 410})
                body = await _read(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False
        return response.status < 500 and not self._restarted(body)

    def _restarted(self, health: bytes) -> bool:
        try:
            uptime = float(json.loads(health)["uptime_secs"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return uptime + 2.0 < time.monotonic() - self._since

    async def end(self) -> None:
        """Tell the hub that the session is over, if the dialect has words for it. Raises nothing."""
        resource, self._resource = self._resource, None
        if resource is None:
            return
        try:
            async with (
                asyncio.timeout(GOODBYE_SECONDS),
                self._http.delete(resource, headers=self._headers(resource), allow_redirects=False),
            ):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            pass  # it will notice by itself

    def _headers(self, url: URL) -> dict[str, str]:
        """The token, for the configured origin only; no compression, lest a small answer swell."""
        headers = {"Accept-Encoding": "identity"}
        if self._token and url.origin() == self._origin:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    async def _post(self, url: URL, body: bytes, headers: dict[str, str]) -> _Response:
        """The successful response to `body`, after redirects."""
        answered = False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for _ in range(MAX_REDIRECTS + 1):
                    answered = False
                    async with self._http.post(
                        url, data=body, headers=headers | self._headers(url), allow_redirects=False
                    ) as response:
                        answered = True
                        if response.status in {307, 308} and (location := response.headers.get("Location")):
                            url = _join(url, location) or url
                            continue
                        text = await _read(response)
                        self._judge(response, text)
                        return _Response(url, response.status, response.headers, text)
        except TimeoutError:
            if not answered:
                raise self._unreachable(f"does not answer within {ANSWER_SECONDS:.0f} s") from None
            raise self._nonsense(f"does not end within {ANSWER_SECONDS:.0f} s") from None
        except _TooLongError:
            raise self._nonsense(f"is longer than {MAX_ANSWER_BYTES // 1024} KiB") from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise HubRefusedError(
                f"the hub at {self._shown} cannot prove who it is ({_reason(error)})",
                hint="Check the hub's certificate, this device's clock, and `hub.url`",
            ) from None
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise self._unreachable(f"does not answer ({_reason(error)})") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise self._nonsense("redirects to an address that is none") from None
        except (aiohttp.ClientError, ValueError):
            raise self._nonsense("is not HTTP") from None
        raise self._nonsense("redirects in circles")

    def _judge(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        """Raise what the status says."""
        status = response.status
        if status in {200, 201}:
            return
        said = _one_line(body)
        if status in {401, 403}:
            raise HubRefusedError(
                f"the hub at {self._shown} refuses our credentials ({status})",
                hint="Put the hub's token into the file that `hub.token_file` names",
                permanent=True,
            )
        if status >= 500 or status in {408, 425, 429}:
            wait = response.headers.get("Retry-After", "")
            later = f", and asks to try again in {wait} s" if re.fullmatch(r"\d{1,6}", wait) else ""
            raise self._unreachable(f"cannot serve us now ({status}{said}){later}")
        raise self._nonsense(f"is {status}{said}")

    def _text(self, response: _Response) -> str:
        try:
            return response.body.decode()
        except UnicodeDecodeError:
            raise self._nonsense("is not text") from None

    def _unreachable(self, what: str) -> HubUnreachableError:
        return HubUnreachableError(
            f"the hub at {self._shown} {what}",
            hint="Check that the hub runs, and `hub.url`; trying goes on",
        )

    def _nonsense(self, what: str) -> HubAnswerError:
        return HubAnswerError(
            f"the answer of {self._shown} {what}",
            hint="Check that `hub.url` and `hub.dialect` are those of a hub",
        )


class _TooLongError(Exception):
    pass


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()  # and read no more of it
            raise _TooLongError
    return bytes(body)


def hub_url(config: HubConfig) -> URL:
    """`hub.url`, checked. Raises HubRefusedError (permanent)."""
    try:
        url = URL(config.url.strip())
        usable = url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
    except ValueError:
        usable = False
    if not usable:
        raise HubRefusedError(
            f"hub.url is no address of a hub: {shown(config)}",
            hint="Write it as http://host:port or https://host",
            permanent=True,
        )
    return url.with_fragment(None)


def shown(config: HubConfig) -> str:
    """`hub.url` for human eyes: no user, no password, no query.

    Of a WHIP address, whose path may be a key, the origin alone.
    """
    text = re.sub(r"[?#].*", "", config.url.strip(), flags=re.DOTALL)
    text = re.sub(r"^([^/]*//)?[^/]*@", r"\1", text)
    if config.dialect == "whip":
        text = re.sub(r"^([^/]*//[^/]*)/.+", r"\1/...", text, flags=re.DOTALL)
    return _printable(text)[:200]


def _join(base: URL, location: str) -> URL | None:
    """`location`, relative to `base` or not; None if it is no HTTP address."""
    try:
        url = base.join(URL(location))
    except ValueError:
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


def _ice_servers(links: list[str]) -> tuple[IceServer, ...]:
    servers = []
    for link in ",".join(links).split(",")[:10]:
        match = re.match(r"\s*<((?:stun|turn)s?:[^>\s]{1,200})>(.*)", link, re.DOTALL)
        if match is None:
            continue
        parameters = {
            name.lower(): value.strip('"')
            for name, value in re.findall(r';\s*([\w-]+)\s*=\s*("[^"]*"|[^;\s]*)', match[2])
        }
        if parameters.get("rel") == "ice-server":
            servers.append(IceServer(match[1], parameters.get("username"), parameters.get("credential")))
    return tuple(servers)


def _reason(error: BaseException) -> str:
    """What the system says, without the addresses that aiohttp's texts may repeat."""
    cause: BaseException = getattr(error, "os_error", None) or error
    number = getattr(cause, "errno", None)
    if number is not None and number > 0:  # negative: of name resolution, which has texts of its own
        return os.strerror(number)
    return _printable(getattr(cause, "strerror", None) or type(cause).__name__)[:120]


def _one_line(body: bytes) -> str:
    """The beginning of what a hub says about its refusal, if that is meant for humans."""
    text = _printable(body[:1000].decode(errors="replace")).strip()
    if not text or text.startswith("<"):
        return ""
    return f": {text[:160]}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
