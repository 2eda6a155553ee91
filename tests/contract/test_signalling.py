"""Both dialects, one contract: against a hub that speaks them, and against everything that is not a hub."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
import socket

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.fakehub import FakeHub, json_answer
from tests.support.link_device import LinkDevice, until
from tests.support.signalling import ANSWER, SECRET, dialects, offer_to, refusal, responds

from pinna.config import HubConfig
from pinna.errors import HubAnswerError, HubRefusedError, HubUnreachableError
from pinna.links import signalling
from pinna.links.answer import check_answer
from pinna.links.signalling import Signalling


@dialects
def test_the_hub_sees_what_the_dialect_asks_for(dialect):
    async def scenario():
        async with FakeHub(dialect, token=SECRET) as hub, LinkDevice(hub.config, SECRET) as device:
            device.start()
            await device.connected()
            request = hub.requests[0]
            assert request.headers["Authorization"] == f"Bearer {SECRET}"
            if dialect == "connect":
                (body,) = hub.bodies
                assert body["device_id"] == "ear-1"
                assert body["preferred_output_sample_rate"] == 48_000
                assert body["supported_output_codecs"] == ["pcm_s16le"]
                assert body["sdp"].startswith("v=0")
            else:
                assert request.content_type == "application/sdp"
            offer = hub.offers[0]
            assert offer.count("m=") == 1
            assert "opus/48000/2" in offer
            assert "PCMU" not in offer
            assert "srflx" not in offer, "no STUN unless configured"
            await device.stop()
            await until(lambda: hub.session.connection.connectionState == "closed")
            assert hub.session.deleted == (dialect == "whip")

    asyncio.run(scenario())


@dialects
def test_without_a_token_none_is_sent(dialect):
    seen = []

    async def handle(request):
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=503)

    refusal(handler=handle, dialect=dialect)
    assert seen == [f"Bearer {SECRET}"]
    seen.clear()

    async def scenario():
        async with FakeHub(dialect, instead=handle) as hub, aiohttp.ClientSession() as http:
            with pytest.raises(HubUnreachableError):
                await Signalling(http, hub.config, "ear-1", None).offer("v=0\r\n")

    asyncio.run(scenario())
    assert seen == [None]


@dialects
@pytest.mark.parametrize("status", [401, 403])
def test_rejected_credentials_are_permanent(dialect, status):
    error = refusal(responds(status, "no"), dialect, HubRefusedError)
    assert error.permanent
    assert "token" in error.hint


@dialects
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_hub_in_trouble_is_tried_again(dialect, status):
    error = refusal(responds(status, '{"error": "not now"}'), dialect, HubUnreachableError)
    assert not error.permanent
    assert str(status) in error.cause
    assert "not now" in error.cause


@dialects
def test_retry_after_is_told(dialect):
    assert "try again in 17 s" in refusal(responds(503, Retry_After="17"), dialect).cause


@dialects
@pytest.mark.parametrize("status", [204, 301, 302, 304, 400, 404, 405, 406, 410, 415, 422])
def test_other_refusals_are_answers_that_make_no_sense(dialect, status):
    error = refusal(responds(status, Location="/elsewhere"), dialect, HubAnswerError)
    assert not error.permanent
    assert str(status) in error.cause


PAGE = "<!doctype html><html><body>It works!</body></html>"
NO_AUDIO = ANSWER.replace("m=audio", "m=video").replace("opus/48000/2", "VP8/90000")
BAD_SDP = {
    "empty": "",
    "HTML": PAGE,
    "words": "hello",
    "no audio": NO_AUDIO,
    "no media": ANSWER[: ANSWER.index("m=audio")],
    "declined": ANSWER.replace("m=audio 9", "m=audio 0"),
    "no Opus": ANSWER.replace("opus/48000/2", "PCMU/8000"),
    "no fingerprint": ANSWER.replace("a=fingerprint:sha-256 AA:BB\r\n", ""),
    "no ICE": ANSWER.replace("a=ice-ufrag:abcd\r\n", ""),
    "two streams": ANSWER + ANSWER[ANSWER.index("m=audio") :],
    "broken lines": ANSWER.replace("a=setup:active", "a=setup:never"),
    "broken payload type": ANSWER.replace("SAVPF 96", "SAVPF ninety"),
}


@dialects
@pytest.mark.parametrize("what", BAD_SDP)
def test_bad_sdp(dialect, what):
    body = json.dumps({"sdp": BAD_SDP[what]}) if dialect == "connect" else BAD_SDP[what]
    status = 200 if dialect == "connect" else 201
    error = refusal(responds(status, body, Location="/whip/1"), dialect, HubAnswerError)
    assert not error.permanent


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"17",
        b"{}",
        b'{"sdp": 5}',
        b'{"sdp": null}',
        b'{"sdp": ["v=0"]}',
        b"\xff\xfe",
        b"[" * 50_000,
        b"\x00" * 1000,
        PAGE.encode(),
    ],
    ids=lambda body: repr(body[:16]),
)
def test_bad_json(body):
    refusal(responds(200, body, Content_Type="application/json"), "connect", HubAnswerError)


@dialects
def test_a_good_answer_by_any_content_type(dialect):
    """What counts is what is in it: hubs are careless with the type."""

    async def handle(request):
        if dialect == "whip":
            return web.Response(status=201, text=ANSWER, content_type="text/html")
        return web.Response(text=json.dumps({"sdp": ANSWER, "more": 1}), content_type="text/plain")

    async def scenario():
        async with FakeHub(dialect, instead=handle) as hub, aiohttp.ClientSession() as http:
            assert await Signalling(http, hub.config, "ear-1", None).offer("v=0\r\n") == ANSWER

    asyncio.run(scenario())


@dialects
@pytest.mark.parametrize("announced", [True, False])
def test_an_endless_answer_is_not_read(dialect, announced):
    written = 0

    async def handle(request):
        nonlocal written
        response = web.StreamResponse(status=200)
        if announced:
            response.content_length = 20_000_000
        await response.prepare(request)
        for _ in range(20):
            await response.write(b"x" * 1_000_000)
            written += 1
        return response

    error = refusal(handle, dialect, HubAnswerError)
    assert "longer" in error.cause
    assert written < 15, "the rest was never taken from the socket"


@dialects
def test_a_dripping_answer_is_given_up(dialect, monkeypatch):
    monkeypatch.setattr(signalling, "ANSWER_SECONDS", 0.5)

    async def handle(request):
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    assert "end within" in refusal(handle, dialect, HubAnswerError).cause


@dialects
def test_a_hub_that_never_answers_is_given_up(dialect, monkeypatch):
    monkeypatch.setattr(signalling, "ANSWER_SECONDS", 0.3)

    async def handle(request):
        await asyncio.sleep(3600)
        return web.Response()

    refusal(handle, dialect, HubUnreachableError)


@dialects
def test_nobody_there(dialect):
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(HubUnreachableError, match="Connection refused") as caught:
            offer_to(HubConfig(url=url, dialect=dialect))
    assert url in caught.value.cause


@dialects
def test_a_name_that_is_nobodys(dialect):
    with pytest.raises(HubUnreachableError, match=r"hub\.invalid"):
        offer_to(HubConfig(url="http://hub.invalid:1", dialect=dialect))


@dialects
@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x01\x02", b"", b"HTTP/1.1 ok\r\n\r\n"]
)
def test_what_does_not_speak_http(dialect, greeting):
    async def scenario():
        async def greet(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(greeting)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession() as http:
            config = HubConfig(url=f"http://127.0.0.1:{port}", dialect=dialect)
            with pytest.raises((HubAnswerError, HubUnreachableError)) as caught:
                await Signalling(http, config, "ear-1", SECRET).offer("v=0\r\n")
            assert not caught.value.permanent

    asyncio.run(scenario())


@dialects
def test_tls_where_there_is_none(dialect):
    async def scenario():
        async with FakeHub(dialect) as hub, aiohttp.ClientSession() as http:
            config = dataclasses.replace(hub.config, url=hub.url.replace("http:", "https:"))
            with pytest.raises((HubRefusedError, HubUnreachableError)) as caught:
                await Signalling(http, config, "ear-1", SECRET).offer("v=0\r\n")
            assert not caught.value.permanent

    asyncio.run(scenario())


@dialects
@pytest.mark.parametrize(
    "url",
    ["", "hub", "hub:8080", "ftp://hub", "http://", "http:///x", "//hub", "http://[::1", "http://h:99999"],
)
def test_an_address_that_is_none_is_permanent(dialect, url):
    with pytest.raises(HubRefusedError) as caught:
        offer_to(HubConfig(url=url, dialect=dialect))
    assert caught.value.permanent
    assert "http://host:port" in caught.value.hint


def test_secrets_of_an_address_that_is_none_are_not_told():
    with pytest.raises(HubRefusedError) as caught:
        offer_to(HubConfig(url="ftp://user:hidden1@hub/x?key=hidden2#hidden3"))
    assert "hidden" not in str(caught.value)
    assert "ftp://hub/x" in str(caught.value)


@pytest.mark.parametrize("token", ["two\nlines", "sp ace", "café", "nul\x00"])
def test_a_token_no_header_can_hold_is_permanent_and_not_told(token):
    with pytest.raises(HubRefusedError) as caught:
        offer_to(HubConfig(), token)
    assert caught.value.permanent
    assert token not in str(caught.value)


def test_the_token_is_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    test_the_hub_sees_what_the_dialect_asks_for("whip")
    assert caplog.records
    assert SECRET not in caplog.text


lines = st.sampled_from(ANSWER.splitlines(keepends=True))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(st.one_of(lines, st.text(max_size=40)), max_size=30).map("".join),
        st.tuples(st.integers(0, len(ANSWER)), st.integers(0, 40), st.text(max_size=20)).map(
            lambda cut: ANSWER[: cut[0]] + cut[2] + ANSWER[cut[0] + cut[1] :]
        ),
        st.none() | st.integers() | st.lists(st.text(max_size=5), max_size=3),
    )
)
def test_any_answer_is_accepted_or_refused(sdp):
    try:
        accepted = check_answer(sdp, "http://hub")
    except HubAnswerError as error:
        accepted = None
        permanent = error.permanent
    assert accepted is sdp if accepted is not None else not permanent


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(st.integers(0, len(ANSWER)), st.integers(0, 30), st.text(max_size=15)).map(
        lambda cut: ANSWER[: cut[0]] + cut[2] + ANSWER[cut[0] + cut[1] :]
    )
)
def test_any_answer_ends_the_link_with_an_error_of_ours(sdp):
    async def scenario():
        async with FakeHub("connect", instead=json_answer(sdp)) as hub, LinkDevice(hub.config) as device:
            with pytest.raises((HubAnswerError, HubUnreachableError)):
                await device.start()
            assert device.link.stats.connection_failures == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinna.links.webrtc.MEDIA_SECONDS", 0.2)
        asyncio.run(scenario())


def test_shown_addresses_hold_no_secrets():
    for url, dialect, text in [
        ("http://hub:8080", "connect", "http://hub:8080"),
        ("https://me:pw@hub/base?key=pw#pw", "connect", "https://hub/base"),
        ("https://me:pw@hub/pw/webRTC/publish", "whip", "https://hub/..."),
        ("me:pw@hub", "connect", "hub"),
        ("http://a\x1b[31mb", "connect", "http://a [31mb"),
    ]:
        assert signalling.shown(HubConfig(url=url, dialect=dialect)) == text
    assert re.match(r"[ -~]*$", signalling.shown(HubConfig(url="http://\x00\n\x7f")))
