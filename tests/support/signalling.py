"""One exchange of offer and answer with a hub of the test's own."""

from __future__ import annotations

import asyncio
import dataclasses

import aiohttp
import pytest
from aiohttp import web
from tests.support.fakehub import FakeHub

from pinna.config import HubConfig
from pinna.errors import PinnaError
from pinna.links.signalling import Signalling

SECRET = "s3cret-token"

dialects = pytest.mark.parametrize("dialect", ["connect", "whip"])

ANSWER = """v=0\r
o=- 1 1 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=group:BUNDLE 0\r
m=audio 9 UDP/TLS/RTP/SAVPF 96\r
c=IN IP4 0.0.0.0\r
a=sendrecv\r
a=mid:0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=rtcp-mux\r
a=rtpmap:96 opus/48000/2\r
a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r
a=end-of-candidates\r
a=ice-ufrag:abcd\r
a=ice-pwd:abcdefghijklmnopqrstuv\r
a=fingerprint:sha-256 AA:BB\r
a=setup:active\r
"""


def offer_to(config: HubConfig, token: str | None = SECRET, sdp: str = "v=0\r\n") -> Signalling:
    """The signalling after a successful exchange; raises what `offer` raises."""

    async def scenario() -> Signalling:
        async with aiohttp.ClientSession() as http:
            exchange = Signalling(http, config, "ear-1", token)
            await exchange.offer(sdp)
            return exchange

    return asyncio.run(scenario())


def refusal(handler, dialect: str = "connect", kind: type[PinnaError] = PinnaError) -> PinnaError:
    """What `offer` raises when the hub answers by `handler`; free of secrets, with cause and cure."""

    async def scenario() -> PinnaError:
        async with FakeHub(dialect, instead=handler) as hub, aiohttp.ClientSession() as http:
            config = dataclasses.replace(
                hub.config, url=hub.url.replace("//", "//user:hidden1@") + "?key=hidden2"
            )
            with pytest.raises(kind) as caught:
                await Signalling(http, config, "ear-1", SECRET).offer("v=0\r\n")
            assert f"http://127.0.0.1:{hub.port}" in caught.value.cause
            return caught.value

    error = asyncio.run(scenario())
    texts = [str(error), repr(error.__cause__)]
    assert not any(word in text for word in (SECRET, "hidden1", "hidden2") for text in texts)
    assert error.hint
    return error


def responds(status: int = 200, body: bytes | str = b"", **headers: str):
    async def handle(request: web.Request) -> web.StreamResponse:
        content = body.encode() if isinstance(body, str) else body
        return web.Response(
            status=status, body=content, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return handle
