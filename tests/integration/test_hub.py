"""The hub against real aiortc peers as devices: sound, replacement, disappearance, stopping."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from tests.support.hub_device import Device, device, eventually, speech, strength, tone

from pinna.errors import ConfigError, PortInUseError
from pinna.frame import SAMPLE_RATE
from pinna.hub.options import HubOptions
from pinna.hub.peer import NegotiationError, Peer
from pinna.hub.server import Hub
from pinna.hub.session import Voicebox

WORDS = "one two three four five six seven eight nine ten"


@asynccontextmanager
async def hub(**options: Any) -> AsyncIterator[tuple[Hub, aiohttp.ClientSession]]:
    async with (
        Hub(HubOptions(port=0, **options)) as running,
        aiohttp.ClientSession(running.address) as http,
    ):
        yield running, http


async def health(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("/health") as response:
        assert response.status == 200
        return await response.json()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


def test_echo_brings_the_tone_back_and_health_counts() -> None:
    async def scene() -> None:
        async with hub() as (_, http), device(http, "kitchen", tone(1000, 1.0), repeat=True) as kitchen:
            await eventually(lambda: kitchen.hearing().size > 2 * SAMPLE_RATE)
            assert strength(kitchen.hearing()[-SAMPLE_RATE:], 1000) > 0.9
            figures = await health(http)
            assert figures["status"] == "ok"
            assert figures["active_devices"] == 1
            assert figures["grpc_connected"] is False
            assert figures["tts_frames_routed"] > 90
            seen = figures["devices"]["kitchen"]
            assert seen["connected"]
            assert seen["frames_received"] > 90
            assert seen["level_dbfs"] == pytest.approx(-9.3, abs=2)
            assert seen["latency_ms"]["p50"] <= seen["latency_ms"]["p99"] < 5000

    run(scene)


def test_speech_is_counted_and_a_whistle_is_not() -> None:
    async def scene() -> None:
        said = speech(WORDS)
        async with hub(mode="listen") as (running, http):

            def received(name: str) -> int:
                return int(running.health(names=True)["devices"][name]["frames_received"])

            async with device(http, "mute") as mute:
                await eventually(lambda: received("mute") > 50)
                assert (await health(http))["frames_forwarded"] == 0
                assert mute.hearing().size == 0  # the hub listens only
            async with device(http, "whistle", tone(6000, 1.0), repeat=True):
                await eventually(lambda: received("whistle") > 150)
                whistled = (await health(http))["frames_forwarded"]
                assert whistled < 50  # its beginning and a packet that comes late sound like a consonant
            async with device(http, "voice", said):
                await eventually(lambda: running.counters.frames_forwarded > whistled + 100)
                await eventually(lambda: running.counters.vad_ends == running.counters.vad_onsets)
            figures = await health(http)
            assert figures["frames_forwarded"] < whistled + len(said) + 50
            assert figures["vad_onsets"] == figures["vad_ends"] > 0

    run(scene)


def test_several_devices_hear_each_their_own() -> None:
    async def scene() -> None:
        pitches = {"kitchen": 500, "hall": 900, "attic": 1700}
        async with hub() as (_, http), asyncio.TaskGroup() as group:

            async def one(name: str, hertz: int) -> None:
                async with device(http, name, tone(hertz, 1.0), repeat=True) as peer:
                    await eventually(lambda: peer.hearing().size > 2 * SAMPLE_RATE)
                    heard = {each: strength(peer.hearing()[-SAMPLE_RATE:], each) for each in pitches.values()}
                    assert heard[hertz] > 10 * max(part for each, part in heard.items() if each != hertz)

            for name, hertz in pitches.items():
                group.create_task(one(name, hertz))

    run(scene)


def test_the_same_id_again_ends_the_first_session_even_with_a_bad_offer() -> None:
    async def scene() -> None:
        async with (
            hub() as (_, http),
            device(http, "kitchen") as first,
            device(http, "kitchen") as second,
        ):
            await eventually(lambda: first.pc.connectionState == "closed")
            assert second.pc.connectionState == "connected"
            assert (await health(http))["active_devices"] == 1
            async with http.post("/connect", json={"device_id": "kitchen", "sdp": "nonsense"}) as response:
                assert response.status == 500
            await eventually(lambda: second.pc.connectionState == "closed")
            assert (await health(http))["active_devices"] == 0

    run(scene)


def test_many_offers_at_once_under_one_id_leave_one_session() -> None:
    async def scene() -> None:
        async with hub() as (running, http):
            peer = Device()
            body = {"device_id": "kitchen", "sdp": await peer.offer()}

            async def connect() -> int:
                async with http.post("/connect", json=body) as response:
                    return response.status

            answered = await asyncio.gather(*(connect() for _ in range(12)))
            assert set(answered) <= {200, 500}
            assert 200 in answered
            await eventually(lambda: running.health(names=True)["active_devices"] == 1)
            await peer.close()

    run(scene)


def test_a_peer_closed_at_any_moment_of_its_negotiation_leaves_no_socket() -> None:
    async def scene() -> None:
        device = Device()
        offer = await device.offer()
        files_before = open_files()
        for turns in range(40):  # of the event loop, from the offer to the close
            peer = Peer(Voicebox().track, 5.0, lambda _why: None)
            answering = asyncio.create_task(peer.answer(offer))
            for _ in range(turns):
                await asyncio.sleep(0)
            await peer.close()
            await asyncio.wait([answering])
            if answering.exception() is not None:
                assert isinstance(answering.exception(), NegotiationError)
        await eventually(lambda: open_files() <= files_before)
        await device.close()

    run(scene)


def test_a_device_that_vanishes_without_a_word_is_noticed() -> None:
    async def scene() -> None:
        async with hub(silence_seconds=1.0) as (running, http), device(http, "kitchen") as kitchen:
            dtls = kitchen.pc.getTransceivers()[0].sender.transport
            dtls._send_rtp = lambda _data: asyncio.sleep(0)  # type: ignore[method-assign]  the cable is cut
            await eventually(lambda: running.health(names=True)["devices"] == {})

    run(scene)


def test_a_device_that_says_good_bye_is_gone_at_once() -> None:
    async def scene() -> None:
        async with hub(silence_seconds=1000.0) as (running, http):
            async with device(http, "kitchen"):
                assert running.health(names=True)["active_devices"] == 1
            await eventually(lambda: running.health(names=True)["active_devices"] == 0)

    run(scene)


def test_no_room_for_one_device_too_many() -> None:
    async def scene() -> None:
        async with hub(max_devices=1) as (_, http), device(http, "kitchen"):
            hall = Device()
            async with http.post(
                "/connect", json={"device_id": "hall", "sdp": await hall.offer()}
            ) as response:
                assert response.status == 503
                assert "no room" in (await response.json())["error"]
            await hall.close()
            async with device(http, "kitchen"):  # the same again takes no more room
                pass

    run(scene)


def test_say_plays_the_file_to_who_connects(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(tone(700, 0.5).tobytes())

    async def scene() -> None:
        async with (
            hub(mode="say", say_file=path, say_repeat=True) as (_, http),
            device(http, "kitchen") as kitchen,
        ):
            await eventually(lambda: kitchen.hearing().size > 2 * SAMPLE_RATE)
            assert strength(kitchen.hearing()[-SAMPLE_RATE:], 700) > 0.9

    run(scene)


def test_say_answers_when_speech_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(tone(700, 0.5).tobytes())

    async def scene() -> None:
        async with (
            hub(mode="say", say_file=path, say_on="speech") as (running, http),
            device(http, "kitchen", speech("hello there")) as kitchen,
        ):
            await eventually(lambda: kitchen.hearing().size > SAMPLE_RATE // 4)
            assert running.counters.vad_ends > 0

    run(scene)


def test_record_writes_a_valid_wav_of_what_was_said(tmp_path: Path) -> None:
    async def scene() -> None:
        async with hub(mode="record", record_dir=tmp_path / "in") as (running, http):
            async with device(http, "kitchen", tone(1000, 1.0), repeat=True):
                await eventually(
                    lambda: running.health(names=True)["devices"]["kitchen"]["frames_received"] > 130
                )
                (path,) = (tmp_path / "in").iterdir()
                assert path.name.startswith("kitchen-")
                with wave.open(str(path)) as file:  # valid while it grows
                    assert file.getnframes() >= SAMPLE_RATE
            await eventually(lambda: running.health(names=True)["active_devices"] == 0)
        with wave.open(str(path)) as file:
            assert file.getparams()[:3] == (1, 2, SAMPLE_RATE)
            sound = np.frombuffer(file.readframes(10**9), np.int16)
        assert sound.size > 2 * SAMPLE_RATE
        assert strength(sound[SAMPLE_RATE // 2 : SAMPLE_RATE * 3 // 2], 1000) > 0.9

    run(scene)


HUB_OF_ITS_OWN = """
import asyncio, sys
from pathlib import Path
from pinna.hub.options import HubOptions
from pinna.hub.server import Hub

async def run():
    async with Hub(HubOptions(port=0, mode="record", record_dir=Path(sys.argv[1]))) as hub:
        print(hub.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(run())
"""


def test_a_recording_outlives_the_hub_that_is_killed(tmp_path: Path) -> None:
    async def scene() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HUB_OF_ITS_OWN, tmp_path, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            address = ""
            while not address.startswith("http"):  # the log comes to the same place
                address = (await process.stdout.readline()).decode().strip()
            async with (
                aiohttp.ClientSession(address) as http,
                device(http, "kitchen", tone(1000, 1.0), repeat=True),
            ):
                await eventually(lambda: sum(path.stat().st_size for path in tmp_path.iterdir()) > 200_000)
                process.kill()
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    run(scene)
    (path,) = tmp_path.iterdir()
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(10**9), np.int16)
    assert sound.size == (path.stat().st_size - 44) // 2 >= 2 * SAMPLE_RATE
    assert strength(sound[-SAMPLE_RATE:], 1000) > 0.9


def test_stop_with_live_peers_tells_them_and_leaves_nothing() -> None:
    async def scene() -> None:
        tasks_before, files_before = asyncio.all_tasks(), open_files()
        async with hub() as (running, http):
            peers = [Device(), Device()]
            for n, peer in enumerate(peers):
                await peer.connect(http, f"device-{n}")
            async with asyncio.timeout(3):
                await running.stop()
            await eventually(lambda: {peer.pc.connectionState for peer in peers} == {"closed"})
            for peer in peers:
                await peer.close()
        await eventually(lambda: asyncio.all_tasks() == tasks_before)
        await eventually(lambda: open_files() <= files_before)
        assert not [thread for thread in threading.enumerate() if "hub-recording" in thread.name]

    run(scene)


def test_stop_is_not_held_up_by_a_page_that_follows_the_events() -> None:
    async def scene() -> None:
        async with hub() as (running, http), http.get("/events") as events:
            assert (await events.content.readline()).startswith(b'data: {"status":"ok"')
            async with asyncio.timeout(3):
                await running.stop()
            await events.read()  # ended, not torn

    run(scene)


def test_a_taken_port_is_named_with_a_cure() -> None:
    async def scene() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"):
                async with Hub(HubOptions(port=port)):
                    pass

    run(scene)


def test_a_hub_on_every_address_goes_by_its_name() -> None:
    async def scene() -> None:
        async with Hub(HubOptions(host="0.0.0.0", port=0, token="secret")) as running:
            assert running.address.startswith(f"http://{socket.gethostname()}:")

    run(scene)


def test_what_cannot_work_is_refused_before_the_port_opens(tmp_path: Path) -> None:
    async def start(**options: Any) -> None:
        async with hub(**options):
            pass

    with pytest.raises(ConfigError, match="token"):
        HubOptions(host="0.0.0.0")
    with pytest.raises(ConfigError, match=r"missing\.wav"):
        asyncio.run(start(mode="say", say_file=tmp_path / "missing.wav"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="recorded"):
        asyncio.run(start(mode="record", record_dir=tmp_path / "file"))
