"""The hub's HTTP side, word for word: status codes, both dialects, who may ask, and nonsense."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.hub_device import Device, device, eventually
from yarl import URL

from pinna.hub.options import HubOptions
from pinna.hub.routes import MAX_BODY_BYTES
from pinna.hub.server import Hub

JSON = {"Content-Type": "application/json"}
SDP = {"Content-Type": "application/sdp"}
TOKEN = "correct horse battery staple"
HEALTH_KEYS = {
    "status",
    "uptime_secs",
    "active_devices",
    "grpc_connected",
    "frames_forwarded",
    "vad_onsets",
    "vad_ends",
    "tts_frames_routed",
    "tts_frames_dropped",
    "grpc_reconnects",
}


@asynccontextmanager
async def hub(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        Hub(HubOptions(port=0, mode="listen", **options)) as running,
        aiohttp.ClientSession(running.address) as http,
    ):
        yield http


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


async def ask(
    http: aiohttp.ClientSession, method: str, path: str | URL, **request: Any
) -> tuple[int, aiohttp.ClientResponse, str]:
    async with http.request(method, path, **request) as response:
        return response.status, response, await response.text()


def test_health_has_the_fields_devices_look_for() -> None:
    async def scene() -> None:
        async with hub() as http:
            status, _, text = await ask(http, "GET", "/health")
            health = json.loads(text)
            assert status == 200
            assert HEALTH_KEYS | {"devices"} <= health.keys()
            assert health["status"] == "ok"
            assert health["devices"] == {}

    run(scene)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b'{"device_id": "a", "sdp": ""}', 415),
        ({"Content-Type": "application/sdp"}, b"v=0", 415),
        ({"Content-Type": ""}, b"{}", 415),
        (JSON, b"", 400),
        (JSON, b"{", 400),
        (JSON, b"\xff\xfe{}", 400),
        (JSON, b'{"device_id": "a", "sdp": "v=0"} trailing', 400),
        (JSON, b"[" * 200_000, 400),
        (JSON, b'{"sdp": ' + b"9" * 5000 + b"}", 400),
        (JSON, b"[]", 422),
        (JSON, b"null", 422),
        (JSON, b"{}", 422),
        (JSON, b'{"device_id": "a"}', 422),
        (JSON, b'{"sdp": "v=0"}', 422),
        (JSON, b'{"device_id": 7, "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "a", "sdp": null}', 422),
        (JSON, b'{"device_id": "", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "..", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "a..b", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "../../etc/passwd", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "a/b", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "a\\nb", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "a\\n", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "\\ud800", "sdp": "v=0"}', 422),
        (JSON, b'{"device_id": "' + b"a" * 65 + b'", "sdp": "v=0"}', 422),
        (JSON, b" " * (3 * 1024 * 1024), 413),
        ({"Content-Type": "application/vnd.pinna+json; charset=utf-8"}, b"{}", 422),
    ],
)
def test_connect_refuses_in_plain_text(headers: dict[str, str], body: bytes, status: int) -> None:
    async def scene() -> None:
        async with hub() as http:
            answered, response, text = await ask(
                http, "POST", "/connect", headers=headers, data=io.BytesIO(body)
            )
            assert answered == status, text
            assert response.content_type == "text/plain"
            assert text
            assert json.loads((await ask(http, "GET", "/health"))[2])["active_devices"] == 0

    run(scene)


VIDEO_ONLY = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n"
    "a=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=ice-ufrag:abcd\r\n"
    "a=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:actpass\r\na=fingerprint:sha-256 " + "00:" * 31 + "00\r\n"
)


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "nonsense",
        "v=0",
        "\x00\ud800",
        "v=0\r\nm=audio",
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
        VIDEO_ONLY,
        VIDEO_ONLY.replace("m=video", "m=audio").replace("VP8/90000", "PCMU/8000"),
        "v=0\r\n" + "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\n" * 20_000,
    ],
)
def test_an_offer_that_cannot_be_answered_is_an_error_in_json(offer: str) -> None:
    async def scene() -> None:
        async with hub() as http:
            body = {"device_id": "kitchen", "sdp": offer}
            status, response, text = await ask(http, "POST", "/connect", json=body)
            assert status == 500, text
            assert response.content_type == "application/json"
            assert json.loads(text)["error"]
            assert json.loads((await ask(http, "GET", "/health"))[2])["active_devices"] == 0

    run(scene)


def test_the_answer_takes_the_audio_in_opus_and_nothing_else() -> None:
    async def scene() -> None:
        async with hub() as http:
            peer = Device()
            peer.pc.addTransceiver("video")
            peer.pc.createDataChannel("chat")
            body = {"device_id": "kitchen", "sdp": await peer.offer(), "preferred_output_sample_rate": 48000}
            status, _, text = await ask(http, "POST", "/connect", json=body)
            assert status == 200, text
            assert json.loads(text).keys() == {"sdp"}
            audio, video, _ = json.loads(text)["sdp"].split("m=")[1:]
            assert "a=sendrecv" in audio
            assert [line.split()[1] for line in audio.splitlines() if "rtpmap" in line] == ["opus/48000/2"]
            assert "a=inactive" in video
            await peer.close()

    run(scene)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    where=st.integers(0, 99),
    damage=st.sampled_from(["drop", "double", "cut", "swap", "junk"]),
    length=st.integers(0, 60),
    junk=st.text(max_size=40),
)
def test_no_damage_to_an_offer_breaks_the_hub(where: int, damage: str, length: int, junk: str) -> None:
    async def scene() -> None:
        async with hub() as http, AsyncExitStack() as end:
            peer = Device()
            end.push_async_callback(peer.close)
            lines = (await peer.offer()).splitlines()
            at = where % len(lines)  # an offer is never twice the same: ports and addresses differ
            if damage == "drop":
                del lines[at]
            elif damage == "double":
                lines.insert(at, lines[at])
            elif damage == "cut":
                lines[at] = lines[at][:length]
            elif damage == "swap":
                lines[at], lines[0] = lines[0], lines[at]
            else:
                lines[at] = lines[at][:2] + junk
            body = {"device_id": "kitchen", "sdp": "\r\n".join([*lines, ""])}
            status, _, text = await ask(http, "POST", "/connect", json=body)
            assert status in (200, 500)
            assert json.loads(text).keys() == {"sdp" if status == 200 else "error"}
            assert (await ask(http, "GET", "/health"))[0] == 200

    run(scene)


def test_whip_from_offer_to_delete() -> None:
    async def scene() -> None:
        async with hub() as http:
            peer = Device()
            status, response, answer = await ask(
                http, "POST", "/whip/kitchen", headers=SDP, data=await peer.offer()
            )
            assert status == 201, answer
            assert response.content_type == "application/sdp"
            location = response.headers["Location"]
            assert location.startswith("/whip/kitchen/")
            await peer.accept(answer)
            await eventually(lambda: peer.pc.connectionState == "connected")
            assert json.loads((await ask(http, "GET", "/health"))[2])["devices"].keys() == {"kitchen"}
            for method in ("GET", "PATCH", "PUT"):
                status, response, _ = await ask(http, method, location)
                assert (status, response.headers["Allow"]) == (405, "DELETE,OPTIONS")
            assert (await ask(http, "DELETE", location[:-1]))[0] == 404
            assert (await ask(http, "DELETE", location.replace("kitchen", "hall")))[0] == 404
            assert (await ask(http, "DELETE", location))[0] == 200
            await eventually(lambda: peer.pc.connectionState == "closed")
            assert (await ask(http, "DELETE", location))[0] == 404
            assert json.loads((await ask(http, "GET", "/health"))[2])["active_devices"] == 0
            await peer.close()

    run(scene)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "told"),
    [
        ("POST", "/whip/kitchen", JSON, b"{}", 415, {"Accept-Post": "application/sdp"}),
        ("POST", "/whip/kitchen", SDP, b"", 400, {}),
        ("POST", "/whip/kitchen", SDP, b"\xff\xfe", 400, {}),
        ("POST", "/whip/kitchen", SDP, b"v" * (MAX_BODY_BYTES + 1), 413, {}),
        ("POST", "/whip/..%2f..%2fetc", SDP, b"v=0", 422, {}),
        ("POST", "/whip/%2e%2e", SDP, b"v=0", 422, {}),
        ("POST", "/listen/%2e%2e", JSON, b'{"sdp": ""}', 422, {}),
        ("POST", "/listen/nobody", JSON, b'{"sdp": ""}', 404, {}),
        ("POST", "/listen/nobody", SDP, b"v=0", 415, {}),
        ("DELETE", "/whip/%2e%2e/key", {}, None, 422, {}),
        ("GET", "/whip/kitchen", {}, None, 405, {"Allow": "OPTIONS,POST"}),
        ("GET", "/connect", {}, None, 405, {"Allow": "POST"}),
        ("POST", "/health", {}, None, 405, {"Allow": "GET,HEAD"}),
        ("OPTIONS", "/whip/kitchen", {}, None, 204, {"Accept-Post": "application/sdp"}),
        ("OPTIONS", "/whip/kitchen/key", {}, None, 204, {"Allow": "DELETE,OPTIONS"}),
        ("GET", "/nowhere", {}, None, 404, {}),
    ],
)
def test_whip_and_listen_status(
    method: str, path: str, headers: dict[str, str], body: bytes | None, status: int, told: dict[str, str]
) -> None:
    async def scene() -> None:
        async with hub() as http:
            request = {"headers": headers, "data": io.BytesIO(body)} if body is not None else {}
            url = http._base_url.join(URL(path, encoded=True))  # type: ignore[union-attr]  the `%2e` must arrive
            answered, response, text = await ask(http, method, url, **request)
            assert answered == status, text
            assert told.items() <= dict(response.headers).items()

    run(scene)


def test_a_token_is_asked_of_everyone_but_the_page_and_health() -> None:
    async def scene() -> None:
        async with hub(token=TOKEN) as http:
            for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                for method, path in [
                    ("POST", "/connect"),
                    ("POST", "/whip/kitchen"),
                    ("DELETE", "/whip/kitchen/key"),
                    ("POST", "/listen/kitchen"),
                    ("GET", "/events"),
                    ("GET", "/nowhere"),
                ]:
                    status, response, _ = await ask(http, method, path, headers=given)
                    assert status == 401
                    assert response.headers["WWW-Authenticate"] == "Bearer"
                for path in ("/", "/page.js", "/page.css", "/icon.svg"):
                    assert (await ask(http, "GET", path, headers=given))[0] == 200
                status, _, text = await ask(http, "GET", "/health", headers=given)
                assert status == 200
                assert "devices" not in json.loads(text)
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert "devices" in json.loads((await ask(http, "GET", "/health", headers=right))[2])
            assert (await ask(http, "POST", "/connect", headers=right | JSON, data=b"{}"))[0] == 422
            http.headers.update(right)
            async with device(http, "kitchen"):
                assert json.loads((await ask(http, "GET", "/health"))[2])["active_devices"] == 1

    run(scene)


def test_other_sites_pages_may_use_whip_with_the_token_only() -> None:
    async def scene() -> None:
        elsewhere = {"Origin": "https://elsewhere.example"}
        async with hub(token=TOKEN) as http:
            status, response, _ = await ask(http, "OPTIONS", "/whip/kitchen", headers=elsewhere)
            assert status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
            assert (await ask(http, "POST", "/whip/kitchen", headers=elsewhere))[0] == 401

    run(scene)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Host": "localhost:8080", "Origin": "http://localhost:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
def test_without_a_token_other_sites_pages_hear_nothing(headers: dict[str, str], status: int) -> None:
    async def scene() -> None:
        async with hub() as http:
            assert (await ask(http, "GET", "/health", headers=headers))[0] == status

    run(scene)
