"""What follows an exchange: redirects, the session of WHIP, and whether a hub still knows us."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from tests.support.fakehub import FakeHub, json_answer
from tests.support.link_device import LinkDevice
from tests.support.signalling import ANSWER, SECRET, dialects, refusal, responds

from pinna.errors import HubAnswerError
from pinna.links import signalling
from pinna.links.signalling import IceServer, Signalling


class TestRedirects:
    @staticmethod
    def exchange(location, status=307, path="/whip"):
        """A WHIP hub that first redirects; returns the requests both origins saw."""
        seen = []

        async def scenario():
            async def far(request):
                seen.append(("far", request.method, request.headers.get("Authorization")))
                return web.Response(status=201, text=ANSWER, headers={"Location": "session/7"})

            async def near(request):
                seen.append(("near", request.method, request.headers.get("Authorization")))
                if request.path == path:
                    target = location.format(far=other.port)
                    return web.Response(status=status, headers={"Location": target})
                return web.Response(status=201, text=ANSWER, headers={"Location": "session/7"})

            async with (
                FakeHub("whip", instead=far) as other,
                FakeHub("whip", instead=near) as hub,
                aiohttp.ClientSession() as http,
            ):
                exchange = Signalling(http, hub.config, "ear-1", SECRET)
                await exchange.offer("v=0\r\n")
                return str(exchange._resource).replace(str(hub.port), "near").replace(str(other.port), "far")

        return seen, asyncio.run(scenario())

    @pytest.mark.parametrize("status", [307, 308])
    def test_are_followed_with_the_token_at_home(self, status):
        seen, resource = self.exchange("/connect", status)
        assert [who for who, *_ in seen] == ["near", "near"]
        assert seen[1][2] == f"Bearer {SECRET}"
        assert resource == "http://127.0.0.1:near/session/7"

    def test_elsewhere_never_sees_the_token(self):
        seen, resource = self.exchange("http://127.0.0.1:{far}/whip")
        assert seen == [("near", "POST", f"Bearer {SECRET}"), ("far", "POST", None)]
        assert resource == "http://127.0.0.1:far/session/7"

    @pytest.mark.parametrize("location", ["/whip", "", "http://", "ftp://hub/whip", "http://[x"])
    def test_in_circles_and_to_nowhere_end(self, location):
        error = refusal(responds(307, Location=location), "whip", HubAnswerError)
        assert not error.permanent

    def test_connect_follows_them_too(self):
        async def scenario():
            async def handle(request):
                if request.path == "/connect":
                    return web.Response(status=308, headers={"Location": "/whip"})
                return await json_answer(ANSWER)(request)

            async with FakeHub("connect", instead=handle) as hub, aiohttp.ClientSession() as http:
                assert await Signalling(http, hub.config, "ear-1", None).offer("v=0\r\n") == ANSWER

        asyncio.run(scenario())


class TestWhipSession:
    @pytest.mark.parametrize(
        ("location", "resource"),
        [
            ("/whip/7", "{home}/whip/7"),
            ("7", "{home}/7"),
            ("http://127.0.0.1:1/s", "http://127.0.0.1:1/s"),
            ("javascript:alert(1)", "None"),
            ("http://[", "None"),
        ],
    )
    def test_location(self, location, resource):
        async def scenario():
            handler = responds(201, ANSWER, Location=location)
            async with FakeHub("whip", instead=handler) as hub, aiohttp.ClientSession() as http:
                exchange = Signalling(http, hub.config, "ear-1", SECRET)
                await exchange.offer("v=0\r\n")
                assert str(exchange._resource) == resource.format(home=f"http://127.0.0.1:{hub.port}")

        asyncio.run(scenario())

    def test_a_session_opened_with_a_bad_answer_is_deleted_too(self):
        deleted = []

        async def handle(request):
            return web.Response(
                status=201, text=ANSWER.replace("opus/48000/2", "PCMU/8000"), headers={"Location": "/gone/1"}
            )

        async def scenario():
            async with FakeHub("whip", instead=handle) as hub, LinkDevice(hub.config) as device:
                with pytest.raises(HubAnswerError):
                    await device.start()
                deleted.extend(r.path for r in hub.requests if r.method == "DELETE")

        asyncio.run(scenario())
        assert deleted == ["/gone/1"]

    def test_a_goodbye_is_not_waited_for(self):
        """A hub that does not answer DELETE holds up the end by a second, not more."""

        async def scenario():
            async def nobody(reader, writer):
                await reader.read()
                writer.close()

            server = await asyncio.start_server(nobody, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            handler = responds(201, ANSWER, Location=f"http://127.0.0.1:{port}/s")
            async with server, FakeHub("whip", instead=handler) as hub, aiohttp.ClientSession() as http:
                exchange = Signalling(http, hub.config, "ear-1", SECRET)
                await exchange.offer("v=0\r\n")
                async with asyncio.timeout(5):
                    await exchange.end()

        asyncio.run(scenario())

    def test_ice_servers_are_taken_from_links(self):
        handler = responds(
            201,
            ANSWER,
            Link='<stun:stun.example.net>; rel="ice-server", <https://example.net>; rel="next", '
            '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="me"; credential="pw"; '
            'credential-type="password", <gopher:x>; rel="ice-server"',
        )

        async def scenario():
            async with FakeHub("whip", instead=handler) as hub, aiohttp.ClientSession() as http:
                exchange = Signalling(http, hub.config, "ear-1", None)
                await exchange.offer("v=0\r\n")
                return exchange.ice_servers

        assert asyncio.run(scenario()) == (
            IceServer("stun:stun.example.net"),
            IceServer("turn:turn.example.net?transport=udp", "me", "pw"),
        )


class TestAlive:
    @staticmethod
    def ask(dialect: str, prepare=lambda hub, exchange: None, *, close: bool = False) -> bool:
        async def scenario():
            async with FakeHub(dialect) as hub, aiohttp.ClientSession() as http:
                exchange = Signalling(http, hub.config, "ear-1", None)
                exchange._since = hub.started
                if dialect == "whip":
                    exchange._resource = signalling.URL(hub.url) / "1"
                    hub.sessions.append(None)
                prepare(hub, exchange)
                if close:
                    await hub._runner.cleanup()
                try:
                    return await exchange.alive()
                finally:
                    hub.sessions.clear()

        return asyncio.run(scenario())

    @dialects
    def test_yes(self, dialect):
        assert self.ask(dialect)

    @dialects
    def test_nobody_there(self, dialect):
        assert not self.ask(dialect, close=True)

    def test_restarted_since(self):
        def long_ago(hub, exchange):
            exchange._since = hub.started - 60

        assert not self.ask("connect", long_ago)

    def test_in_trouble(self):
        def sick(hub, exchange):
            hub.health_status = 500

        assert not self.ask("connect", sick)

    def test_session_gone(self):
        def forget(hub, exchange):
            hub.sessions.clear()

        assert not self.ask("whip", forget)
