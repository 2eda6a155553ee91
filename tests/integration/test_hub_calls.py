"""The hub as a voice service, called by the real link."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from tests.support.link_device import until
from tests.support.voice_device import VoiceDevice

from pinna.errors import HubRefusedError
from pinna.frame import SILENCE, Frame, Samples
from pinna.hub.options import HubOptions
from pinna.hub.server import Hub
from pinna.hub.wav import read_frames


def url(hub: Hub) -> str:
    return f"{hub.address}/v1/connect"


class Talker(VoiceDevice):
    """A device before which somebody speaks, once, and is then silent."""

    def __init__(self, address: str, speech: Samples, **more: str) -> None:
        super().__init__(address, **more)
        self.microphone = self
        self._speech = iter(speech)

    def put(self, frame: Frame) -> None:
        self.gate.put(dataclasses.replace(frame, samples=next(self._speech, SILENCE)))


def test_it_says_back_what_it_heard(voices: dict[str, Path]) -> None:
    speech = read_frames(voices["near"])

    async def scenario() -> None:
        async with (
            Hub(HubOptions(port=0, voice=True)) as hub,
            Talker(url(hub), speech, mode="always") as device,
        ):
            device.start()
            await device.connected()
            await until(lambda: device.link.stats.frames_received > 40, 60)  # its first words
            await until(lambda: len(device.speaker.played) > 40)
            loudest = max(int(np.max(np.abs(frame.astype(int)))) for frame in device.speaker.played)
            assert loudest > 3000

    asyncio.run(scenario())


def test_a_hub_that_stops_hangs_up() -> None:
    async def scenario() -> None:
        async with Hub(HubOptions(port=0, voice=True)) as hub, VoiceDevice(url(hub)) as device:
            await device.talking()
            await hub.stop()
            assert "code 1001" in str(await device.failed())

    asyncio.run(scenario())


def test_its_token_is_asked_for() -> None:
    async def scenario() -> None:
        async with Hub(HubOptions(port=0, voice=True, token="s3cret")) as hub:
            async with VoiceDevice(url(hub), token="wrong") as device:
                device.start()
                device.sessions.open("test")
                assert isinstance(await device.failed(), HubRefusedError)
            async with VoiceDevice(url(hub), token="s3cret") as device:
                await device.talking()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "said",
    [
        "?",
        '{"type": "audio", "content": {"audio_data": "AAAA"}}',
        '{"type": "call_connect", "content": {"sample_rate": 0}}',
    ],
)
def test_nonsense_ends_the_call_and_nothing_else(said: str) -> None:
    async def scenario() -> None:
        async with Hub(HubOptions(port=0, voice=True)) as hub, aiohttp.ClientSession() as http:
            async with http.ws_connect(url(hub)) as wire:
                assert (await wire.receive_json())["type"] == "initialize"
                await wire.send_str(said)
                assert (await wire.receive()).type is aiohttp.WSMsgType.CLOSE
                assert wire.close_code == 1003
            async with http.ws_connect(url(hub)) as wire:
                assert (await wire.receive_json())["type"] == "initialize"

    asyncio.run(scenario())


def test_without_it_there_are_no_calls() -> None:
    async def scenario() -> None:
        async with Hub(HubOptions(port=0)) as hub, aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(url(hub))
            assert caught.value.status == 404

    asyncio.run(scenario())
