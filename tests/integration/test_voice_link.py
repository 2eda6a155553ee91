"""A call to a voice service from first message to last, and whatever may befall it."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs
from tests.support.fakehub import tone
from tests.support.link_device import until
from tests.support.voice_device import VoiceDevice
from tests.support.voice_service import VoiceCall, VoiceService

from pinna.errors import HubAnswerError, HubRefusedError, HubUnreachableError, PinnaError
from pinna.links.voice_call import MAX_UNSENT_BYTES, Patience

QUICK = Patience(answer=0.5, ping=0.1, silent=0.5, goodbye=0.5)


def jwt(ends: float) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part({'exp': ends, 'sub': 'ear'})}.c2lnbmF0dXJl"


def pitch(samples: Any, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("dialect", ["envelope", "content"])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_sound_goes_both_ways_in_the_order_of_the_protocol(dialect: str, rate: int) -> None:
    async def scenario() -> None:
        async with (
            VoiceService(dialect) as service,
            VoiceDevice(service.url, sample_rate=rate, character="Ada") as device,
        ):
            await device.talking()
            call = service.call
            await until(lambda: len(call.audio) > 40)
            assert call.kinds[:2] == ["client_location_state", "call_connect"]
            assert call.messages[0]["call_id"] is None
            assert set(call.messages[0]["content"]) == {"latitude", "longitude", "address", "timezone"}
            connect = call.messages[1]["content"]
            assert (connect["sample_rate"], connect["audio_codec"]) == (rate, "none")
            assert connect["settings"]["character"] == "Ada"
            assert call.messages[1]["session_id"] == "s-1"
            assert call.messages[2]["call_id"] == "c-1"
            assert json.loads(call.query["usercontext"]) == {"timezone": "Etc/UTC"}
            assert call.query["id_token"] == "token"
            assert call.headers["Origin"] == [f"http://127.0.0.1:{service.port}"]
            assert {len(chunk) for chunk in call.audio} == {rate * 40 // 1000 * 2}
            assert abs(pitch(call.heard[rate // 4 :], rate) - 440) < 10

            t = np.arange(24_000) / 24_000
            spoken = (8000 * np.sin(2 * np.pi * 600 * t)).astype(np.int16)
            for piece in spoken.reshape(25, 960):
                await call.say(piece)
            await until(lambda: len(device.speaker.played) >= 48)
            assert abs(pitch(np.concatenate(device.speaker.played[5:45]), 48_000) - 600) < 10
            assert device.link.stats.frames_received >= 48

            device.sessions.close("test")
            await until(lambda: call.over)
            assert call.kinds[-1] == "call_disconnect"
            assert call.messages[-1]["content"] == {"reason": "user_request"}
            assert not device.running.done()  # at rest, and ready for the next one
            await device.talking()
            assert service.calls[1].messages[1]["content"]["reconnect"] is True

    asyncio.run(scenario())


def test_while_shut_there_is_no_connection_and_then_nothing_of_before_but_the_pre_roll() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            device.start()
            await until(lambda: device.ready and device.gate.held > 60)
            assert service.calls == []
            device.sessions.open("test")
            assert device.gate.passed == len(device.out) == 15  # 300 ms are sent ahead
            await device.talking()
            device.sessions.mute("test")
            call = service.call
            await until(lambda: call.over)
            told, held = len(call.audio), device.gate.held
            assert not device.sessions.open("test")  # muted is muted
            await until(lambda: device.gate.held > held + 50)
            assert len(call.audio) == told
            assert len(service.calls) == 1
            device.sessions.unmute("test")
            device.sessions.open("test")
            assert len(device.out) == 0  # nothing of the mute's time is sent ahead
            await device.talking()
            assert len(service.calls) == 2

    asyncio.run(scenario())


def test_what_is_said_while_the_service_is_called_is_not_lost() -> None:
    async def scenario() -> None:
        async def slow(call: VoiceCall) -> None:
            await call.send("initialize")
            for _ in range(2):
                call.messages.append(await call.wire.receive_json())
            await until(lambda: device.gate.passed > 50)  # a second of talking
            await service.accept(call)

        async with VoiceService(instead=slow) as service, VoiceDevice(service.url) as device:
            await device.talking()
            await until(lambda: len(service.call.heard) > 16_000 * 1.2)
            assert device.out.dropped == 0

    asyncio.run(scenario())


def test_the_service_may_not_name_its_rate_and_may_ping() -> None:
    async def scenario() -> None:
        async with VoiceService(rate=None) as service, VoiceDevice(service.url) as device:
            await device.talking()
            await service.call.send("ping", "ping", request_id="p-1")
            await until(lambda: "ping_response" in service.call.kinds)
            answer = next(m for m in service.call.messages if m["type"] == "ping_response")
            assert answer["request_id"] == "p-1"
            for piece in tone(10):
                await service.call.say(piece[::2].copy())  # 24 kHz unless told
            await until(lambda: device.link.stats.frames_received >= 9)

    asyncio.run(scenario())


def test_the_words_of_a_talk_are_masked_in_the_log() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            await service.call.send("chat", {"text": "the key is under the mat", "author": "user"})
            await until(lambda: [entry for entry in logs if entry["event"] == "voice.chat"])

    with capture_logs() as logs:
        asyncio.run(scenario())
    assert "mat" not in str(logs)
    assert "token" not in {str(value) for entry in logs for value in entry.values()}


def test_our_pings_keep_a_quiet_call_alive_and_silence_ends_it() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url, patience=QUICK) as device:
            await device.talking()
            await until(lambda: service.call.kinds.count("ping") > 8)  # longer than `silent`
            assert not device.running.done()
        silent = VoiceService(answers_pings=False)
        async with silent as service, VoiceDevice(service.url, patience=QUICK) as device:
            await device.talking()
            error = await device.failed()
            assert isinstance(error, HubUnreachableError)
            assert "fallen silent" in str(error)

    asyncio.run(scenario())


def test_a_hub_that_hangs_up_ends_the_session() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            await service.call.send("call_disconnect", {"reason": "bye"})
            await until(lambda: device.sessions.state == "idle")
            assert device.sessions.by == "hub"
            await until(lambda: service.call.over)
            assert not device.running.done()

    asyncio.run(scenario())


def test_a_hub_that_hangs_up_where_the_microphone_is_always_open_is_called_again_later() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url, mode="always") as device:
            device.start()
            await device.connected()
            await service.call.send("call_disconnect", {"reason": "bye"})
            assert "ended the call" in str(await device.failed())

    asyncio.run(scenario())


def test_a_goodbye_that_nobody_answers_takes_no_longer_than_it_may() -> None:
    async def scenario() -> None:
        deaf = VoiceService(answers_goodbye=False)
        async with deaf as service, VoiceDevice(service.url, patience=QUICK) as device:
            await device.talking()
            device.sessions.close("test")
            await until(lambda: not device.link.stats.connected)
            device.sessions.open("test")
            await until(lambda: len(service.calls) == 2 and service.call.connected)

    asyncio.run(scenario())


def test_a_stop_says_goodbye_too() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            await device.stop()
            await until(lambda: service.call.over)
            assert service.call.kinds[-1] == "call_disconnect"

    asyncio.run(scenario())


def test_a_slow_service_loses_sound_with_a_count_and_nothing_grows() -> None:
    async def scenario() -> None:
        stalled = VoiceService(reading=False)
        patience = Patience(ping=60.0)
        async with (
            stalled as service,
            VoiceDevice(service.url, patience=patience, sample_rate=24_000, queue_ms=500) as device,
        ):
            await device.talking()
            call = device.link._call
            await until(lambda: device.out.dropped > 50, 60)
            assert call._wire.unsent_bytes < MAX_UNSENT_BYTES + 8_000  # one message more at most
            dropped = device.out.dropped
            service.read_on.set()
            sent = device.link.stats.frames_sent
            await until(lambda: device.link.stats.frames_sent > sent + 50)
            assert device.out.dropped < dropped + 25  # it recovered
            late = (time.monotonic() - device.link._call._live_since) - len(service.call.heard) / 24_000
            assert late > 0.5  # what was lost stays lost: no burst makes up for it

    asyncio.run(scenario())


async def garbage(call: VoiceCall) -> None:
    for text in ("", "{", "[]", '{"type": 3}', "null", '"x"', "[" * 5000, '{"content": "\udcff"}'[:12]):
        await call.wire.send_str(text)


async def bad_audio(call: VoiceCall) -> None:
    for data in (None, 7, "?", "AAA", "AA==", []):
        await call.send("audio", {"audio_data": data})
    await call.wire.send_str(json.dumps({"type": "audio", "content": "x"}))


async def binary(call: VoiceCall) -> None:
    for _ in range(20):
        await call.wire.send_bytes(b"\x00\xff" * 500)


@pytest.mark.parametrize("fault", [garbage, bad_audio, binary])
def test_nonsense_is_borne(fault: Callable[[VoiceCall], Any]) -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            await fault(service.call)
            chunks = len(service.call.audio)
            await until(lambda: len(service.call.audio) > chunks + 10)
            for piece in tone(10):
                await service.call.say(piece[::2].copy())
            await until(lambda: len(device.speaker.played) >= 5)
            assert not device.running.done()

    with capture_logs() as logs:
        asyncio.run(scenario())
    warned = [
        entry for entry in logs if entry["event"] == "voice.nonsense" and entry["log_level"] == "warning"
    ]
    assert len(warned) == 1


def test_too_much_nonsense_is_not() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            for _ in range(100):
                await service.call.wire.send_str("?")
            error = await device.failed()
            assert isinstance(error, HubAnswerError)
            assert "is not JSON" in str(error)

    asyncio.run(scenario())


def test_a_message_of_20_mb_ends_the_call_and_is_not_kept() -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            sending = asyncio.create_task(service.call.wire.send_str("x" * 20_000_000))
            error = await device.failed()
            sending.cancel()
            await asyncio.wait([sending])
            assert isinstance(error, HubAnswerError)
            assert "longer than 1 MiB" in str(error)

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4000])
def test_a_close_is_a_lost_connection(code: int) -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            await service.call.wire.close(code=code)
            error = await device.failed()
            assert isinstance(error, HubUnreachableError)
            assert f"code {code}" in str(error)
            assert not error.permanent

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [1008, 3000, 4001, 4401])
def test_a_close_that_speaks_of_credentials_is_for_people(code: int) -> None:
    async def scenario() -> None:
        async with VoiceService() as service, VoiceDevice(service.url) as device:
            await device.talking()
            await service.call.wire.close(code=code)
            error = await device.failed()
            assert isinstance(error, HubRefusedError)
            assert error.permanent
            assert "hub.token_file" in error.hint

    asyncio.run(scenario())


async def says_nothing(call: VoiceCall) -> None:
    await call.wire.receive()


async def answers_first(call: VoiceCall) -> None:
    await call.send("call_connect_response", {"sample_rate": 24_000})


async def never_answers(call: VoiceCall) -> None:
    await call.send("initialize")


async def another_request(call: VoiceCall) -> None:
    await call.send("initialize")
    await call.send("call_connect_response", request_id="somebody's")


async def absurd_rate(call: VoiceCall) -> None:
    await call.send("initialize")
    await call.send("call_connect_response", {"sample_rate": -1})


async def refuses_the_call(call: VoiceCall) -> None:
    await call.send("initialize")
    await call.send("call_disconnect", {"reason": "busy"})


async def audio_before_the_call(call: VoiceCall) -> None:
    await call.send("audio", {"audio_data": "AAAA"})


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (says_nothing, HubAnswerError, "sends no initialize within 0.5 s"),
        (answers_first, HubAnswerError, "answers a call before it was made"),
        (never_answers, HubAnswerError, "sends no call_connect_response within"),
        (another_request, HubAnswerError, "answers another call"),
        (absurd_rate, HubAnswerError, "names a sample rate that is none"),
        (refuses_the_call, HubUnreachableError, "does not take our call"),
        (audio_before_the_call, HubAnswerError, "sends no initialize"),
    ],
)
def test_a_beginning_that_is_none(script: Any, kind: type[PinnaError], words: str) -> None:
    async def scenario() -> None:
        async with (
            VoiceService(instead=script) as service,
            VoiceDevice(service.url, patience=QUICK) as device,
        ):
            device.start()
            device.sessions.open("test")
            error = await device.failed()
            assert isinstance(error, kind)
            assert words in str(error)
            assert device.link.stats.connection_failures == 1
            assert not service.call.audio

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "kind"), [(400, HubAnswerError), (404, HubAnswerError), (503, HubUnreachableError)]
)
def test_a_refused_upgrade(status: int, kind: type[PinnaError]) -> None:
    async def scenario() -> None:
        async with VoiceService(status=status) as service, VoiceDevice(service.url) as device:
            device.start()
            device.sessions.open("test")
            error = await device.failed()
            assert isinstance(error, kind)
            assert str(status) in str(error)
            assert "token" not in str(error)

    asyncio.run(scenario())


def test_nobody_there() -> None:
    async def scenario() -> None:
        async with VoiceService() as service:
            url = service.url
        async with VoiceDevice(url, token="s3cret") as device:
            device.start()
            device.sessions.open("test")
            error = await device.failed()
            assert isinstance(error, HubUnreachableError)
            assert "Connection refused" in str(error) or "Connect call failed" in str(error)
            assert "s3cret" not in str(error)

    asyncio.run(scenario())


class TestToken:
    @pytest.mark.parametrize(
        ("token", "words"),
        [(None, "there is no token"), (jwt(1_700_000_000), "expired at 2023-11-14 22:13 UTC")],
    )
    def test_none_or_expired_is_told_before_anyone_calls(self, token: str | None, words: str) -> None:
        async def scenario() -> None:
            async with VoiceService() as service, VoiceDevice(service.url, token=token) as device:
                device.start()
                error = await device.failed()
                assert isinstance(error, HubRefusedError)
                assert error.permanent
                assert words in str(error)
                assert "hub.token_file" in error.hint
                assert device.ready == 0
                assert service.calls == []

        asyncio.run(scenario())

    def test_rejected_is_for_people_and_a_new_one_is_taken_without_a_restart(self) -> None:
        async def scenario() -> None:
            async with VoiceService(tokens={"right"}) as service, VoiceDevice(service.url) as device:
                device.start()
                device.sessions.open("test")
                error = await device.failed()
                assert isinstance(error, HubRefusedError)
                assert error.permanent
                assert "401" in str(error)
                device.token = "right"
                device.running = None
                await device.talking()

        asyncio.run(scenario())

    def test_a_command_fetches_a_fresh_one(self) -> None:
        fresh = jwt(time.time() + 3600)
        command = (sys.executable, "-c", f"print({fresh!r})")

        async def scenario() -> None:
            expired = jwt(time.time() + 10)  # within what is spared
            async with (
                VoiceService(tokens={fresh}) as service,
                VoiceDevice(service.url, token=expired, token_command=command) as device,
            ):
                await device.talking()
                assert service.refused == 0
            async with (
                VoiceService(tokens={fresh}) as service,
                VoiceDevice(service.url, token="revoked", token_command=command) as device,
            ):
                device.start()
                device.sessions.open("test")
                error = await device.failed()
                assert not error.permanent  # the next attempt brings the fresh one
                device.running = None
                await device.talking()

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("program", "words"),
        [
            ("import sys; sys.exit(3)", "ended with code 3"),
            ("", "is no token"),
            ("print('two words')", "is no token"),
            ("print('x' * 9000)", "is no token"),
            (f"print({jwt(1_700_000_000)!r})", "is expired or refused"),
        ],
    )
    def test_a_command_that_does_not_help(self, program: str, words: str) -> None:
        async def scenario() -> None:
            command = (sys.executable, "-c", program)
            async with VoiceDevice("ws://127.0.0.1:9/", token=None, token_command=command) as device:
                device.start()
                error = await device.failed()
                assert isinstance(error, HubRefusedError)
                assert words in str(error)

        asyncio.run(scenario())

    def test_a_command_that_is_not_there(self) -> None:
        async def scenario() -> None:
            command = ("/nonexistent/token",)
            async with VoiceDevice("ws://127.0.0.1:9/", token=None, token_command=command) as device:
                device.start()
                assert "cannot be run (No such file" in str(await device.failed())

        asyncio.run(scenario())

    def test_a_refresh_token_brings_fresh_ones_and_is_replaced_itself(self, tmp_path: Path) -> None:
        fresh = [jwt(time.time() + 3600 + number) for number in range(2)]

        async def scenario() -> None:
            async with TokenEndpoint(tmp_path) as endpoint, VoiceService(tokens={fresh[1]}) as service:
                endpoint.answers = [
                    {"id_token": token, "refresh_token": f"refresh-{number}", "expires_in": "3600"}
                    for number, token in enumerate(fresh)
                ]
                async with VoiceDevice(service.url, token=None, **endpoint.settings) as device:
                    device.start()
                    device.sessions.open("test")
                    error = await device.failed()  # the first one is refused by the service
                    assert not error.permanent
                    device.running = None
                    await device.talking()
                assert endpoint.asked == [
                    {"grant_type": "refresh_token", "refresh_token": "refresh"},
                    {"grant_type": "refresh_token", "refresh_token": "refresh-0"},
                ]

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("answer", "kind", "permanent", "words"),
        [
            (400, HubRefusedError, True, "refuses our refresh token (400). Log in to the service anew"),
            (403, HubRefusedError, True, "refuses our refresh token (403)"),
            (503, HubUnreachableError, False, "cannot do it now (503)"),
            (302, HubUnreachableError, False, "cannot do it now (302)"),
            ({}, HubAnswerError, False, "holds no id_token"),
            ({"id_token": "two words"}, HubAnswerError, False, "holds no id_token"),
            ([], HubAnswerError, False, "is no JSON object"),
            ("{", HubAnswerError, False, "is no JSON object"),
            ({"id_token": jwt(1_700_000_000)}, HubRefusedError, True, "voice.refresh_url gave is expired"),
        ],
    )
    def test_a_refresh_that_does_not_help(
        self, tmp_path: Path, answer: Any, kind: type[PinnaError], permanent: bool, words: str
    ) -> None:
        async def scenario() -> None:
            async with TokenEndpoint(tmp_path) as endpoint:
                endpoint.answers = [answer]
                async with VoiceDevice("ws://127.0.0.1:9/", token=None, **endpoint.settings) as device:
                    device.start()
                    error = await device.failed()
            assert isinstance(error, kind)
            assert error.permanent == permanent
            assert words in str(error)
            assert "key=k" not in str(error)

        asyncio.run(scenario())

    def test_nobody_refreshes(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with TokenEndpoint(tmp_path) as endpoint:
                settings = endpoint.settings
            async with VoiceDevice("ws://127.0.0.1:9/", token=None, **settings) as device:
                device.start()
                error = await device.failed()
            assert isinstance(error, HubUnreachableError)
            assert "key=k" not in str(error)

        asyncio.run(scenario())


class TokenEndpoint:
    """Gives what `answers` says, in turn: a status, text, or a body as JSON. `asked`: the forms."""

    def __init__(self, folder: Path) -> None:
        self.answers: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self._file = folder / "refresh_token"
        self._file.write_text("refresh\n")
        self._file.chmod(0o600)
        app = web.Application()
        app.router.add_post("/v1/token", self._answer)
        self._server = TestServer(app)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "refresh_url": str(self._server.make_url("/v1/token").with_query(key="k")),
            "refresh_token_file": str(self._file),
        }

    async def __aenter__(self) -> TokenEndpoint:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.query["key"] == "k"
        self.asked.append(dict(await request.post()))
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return web.Response(status=answer, headers={"Location": "/elsewhere"})
        return web.Response(text=answer if isinstance(answer, str) else json.dumps(answer))
