from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from pinna.config import HttpConfig
from pinna.errors import ConfigError, PinnaError, PortInUseError
from pinna.exposition import OPENMETRICS_CONTENT_TYPE
from pinna.http import HealthServer

ANY_PORT = HttpConfig(port=0)


class Agent:
    """What the server asks: a health body that tests write into, and some metrics."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {"connected": True, "uptime_seconds": 3}
        self.metrics = b"# EOF\n"

    def health(self) -> dict[str, Any]:
        return self.body

    def server(self, config: HttpConfig = ANY_PORT, token: str | None = None) -> HealthServer:
        return HealthServer(config, health=self.health, metrics=lambda: self.metrics, token=token)


Visit = Callable[[aiohttp.ClientSession], Awaitable[None]]


def serving(server: HealthServer, visit: Visit, host: str = "127.0.0.1") -> None:
    """Start it, let `visit` talk to it with a client rooted there, stop it."""

    async def scenario() -> None:
        await server.start()
        try:
            async with aiohttp.ClientSession(f"http://{host}:{server.port}") as client:
                await visit(client)
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_health_is_200_while_connected_and_503_with_the_same_body_while_not() -> None:
    agent = Agent()

    async def visit(client: aiohttp.ClientSession) -> None:
        for connected, status in ((True, 200), (False, 503), (True, 200)):
            agent.body["connected"] = connected
            async with client.get("/health") as answer:
                assert (answer.status, answer.content_type) == (status, "application/json")
                assert await answer.json() == {"connected": connected, "uptime_seconds": 3}
        del agent.body["connected"]
        async with client.get("/health") as answer:
            assert answer.status == 503

    serving(agent.server(), visit)


def test_what_json_cannot_say_leaves_as_null() -> None:
    agent = Agent()
    agent.body["echo"] = {"erle_db": float("nan"), "more": [float("-inf"), 1.5]}

    async def visit(client: aiohttp.ClientSession) -> None:
        async with client.get("/health") as answer:
            assert (await answer.json())["echo"] == {"erle_db": None, "more": [None, 1.5]}

    serving(agent.server(), visit)


def test_metrics() -> None:
    agent = Agent()
    agent.metrics = b"# TYPE pinna_x counter\npinna_x_total 1.0\n# EOF\n"

    async def visit(client: aiohttp.ClientSession) -> None:
        async with client.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == OPENMETRICS_CONTENT_TYPE
            assert await answer.read() == agent.metrics

    serving(agent.server(), visit)


def test_head_has_the_status_and_no_body() -> None:
    agent = Agent()
    agent.body["connected"] = False

    async def visit(client: aiohttp.ClientSession) -> None:
        for path, status in (("/health", 503), ("/metrics", 200)):
            async with client.head(path) as answer:
                assert answer.status == status
                assert await answer.read() == b""

    serving(agent.server(), visit)


def test_everything_else_is_refused_in_json() -> None:
    async def visit(client: aiohttp.ClientSession) -> None:
        for path in ("/", "/health/", "/healthz", "/metrics/x", "/..%2f..%2fetc/passwd"):
            async with client.get(path) as answer:
                assert (answer.status, await answer.json()) == (404, {"error": "Not Found"})
        async with client.post("/health", data=b"x" * 100_000) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
            assert await answer.json() == {"error": "Method Not Allowed"}

    serving(Agent().server(), visit)


def test_a_health_that_cannot_be_told_is_500_and_logged_and_the_server_lives_on() -> None:
    agent = Agent()

    async def visit(client: aiohttp.ClientSession) -> None:
        agent.body = None  # type: ignore[assignment]
        async with client.get("/health") as answer:
            assert answer.status == 500
            assert "internal error" in (await answer.json())["error"]
        agent.body = {"connected": True}
        async with client.get("/health") as answer:
            assert answer.status == 200

    with capture_logs() as logs:
        serving(agent.server(), visit)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["http.request_crashed"]


def test_nonsense_on_the_wire_is_answered_and_forgotten() -> None:
    async def visit(client: aiohttp.ClientSession) -> None:
        for nonsense in (
            b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
            b"GET  HTTP\r\n\r\n",
            b"x" * 100_000 + b"\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(nonsense)
                assert b" 400 " in await reader.readline()
            finally:
                writer.close()
        async with client.get("/health") as answer:
            assert answer.status == 200

    server = Agent().server()
    serving(server, visit)


class TestToken:
    @pytest.mark.parametrize("path", ["/health", "/metrics", "/elsewhere"])
    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Basic s3cret",
            "s3cret",
            "Bearer s3cretx",
            "Bearer \u00fc",
        ],
    )
    def test_is_asked_for_everywhere(self, path: str, authorization: str | None) -> None:
        async def visit(client: aiohttp.ClientSession) -> None:
            headers = {} if authorization is None else {"Authorization": authorization}
            async with client.get(path, headers=headers) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pinna"'
                assert "connected" not in await answer.text()

        serving(Agent().server(token="s3cret"), visit)

    @pytest.mark.parametrize("authorization", ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"])
    def test_opens(self, authorization: str) -> None:
        async def visit(client: aiohttp.ClientSession) -> None:
            async with client.get("/health", headers={"Authorization": authorization}) as answer:
                assert answer.status == 200
            async with client.get("/elsewhere", headers={"Authorization": authorization}) as answer:
                assert answer.status == 404

        serving(Agent().server(HttpConfig("0.0.0.0", 0), token="s3cret"), visit)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
    def test_is_needed_where_others_can_reach(self, host: str) -> None:
        with pytest.raises(ConfigError, match="no token") as caught:
            Agent().server(HttpConfig(host, 0))
        assert caught.value.permanent


def refusal(config: HttpConfig) -> PinnaError:
    async def scenario() -> PinnaError:
        server = Agent().server(config, token="s3cret")
        with pytest.raises(PortInUseError) as caught:
            await server.start()
        await server.stop()
        return caught.value

    return asyncio.run(scenario())


class TestAddress:
    def test_taken_by_another_program(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            error = refusal(HttpConfig(port=port))
        assert f"127.0.0.1:{port}" in error.cause
        assert "http.port" in error.hint
        assert f"sport = :{port}" in error.hint
        assert not error.permanent  # the other one may end

    @pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
    def test_of_another_machine(self, host: str) -> None:
        error = refusal(HttpConfig(host, 0))
        assert repr(host) in error.cause
        assert "http.host" in error.hint
        assert error.permanent

    def test_can_be_had_again_after_stop(self) -> None:
        async def scenario() -> None:
            first = Agent().server()
            await first.start()
            port = first.port
            async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/health"):
                pass
            await first.stop()
            await first.stop()
            second = Agent().server(HttpConfig(port=port))
            await second.start()
            assert second.port == port
            await second.stop()

        asyncio.run(scenario())

    def test_by_name(self) -> None:
        async def visit(client: aiohttp.ClientSession) -> None:
            async with client.get("/health") as answer:
                assert answer.status == 200

        server = Agent().server(HttpConfig("localhost", 0))
        serving(server, visit, host="localhost")
        assert server.port > 0
