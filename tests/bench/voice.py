"""How late sound is on its way to a voice service on this machine, and back to the loudspeaker."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import numpy as np
from aiohttp import WSMsgType
from tests.support.link_device import until
from tests.support.voice_device import VoiceDevice
from tests.support.voice_service import VoiceCall, VoiceService

from pinna.frame import SILENCE, Frame, Samples
from pinna.links import voice_messages as messages

LOUD = 8000
EVERY_FRAMES = 101
"""Two seconds, and no multiple of the two frames of a chunk: a click comes at either place in one."""


class Clicker(VoiceDevice):
    """Before its microphone somebody clicks; its loudspeaker notes when that is heard again."""

    def __init__(self, url: str) -> None:
        super().__init__(url, mode="always")
        self.microphone = self
        self.clicked: list[float] = []
        self.heard: list[float] = []
        play = self.speaker.play

        def listen(samples: Samples) -> bool:
            if np.max(samples) > LOUD // 4 and (not self.heard or time.monotonic() - self.heard[-1] > 0.1):
                self.heard.append(time.monotonic())
            return play(samples)

        self.speaker.play = listen  # type: ignore[method-assign]

    def put(self, frame: Frame) -> None:
        samples = SILENCE.copy()
        if frame.sequence % EVERY_FRAMES == 25 and self.link.stats.connected:
            samples[400:500] = LOUD
            self.clicked.append(frame.captured_at)
        self.gate.put(dataclasses.replace(frame, samples=samples))


def run(quick: bool) -> list[dict[str, Any]]:
    return asyncio.run(_run(5 if quick else 25))


async def _run(clicks: int) -> list[dict[str, Any]]:
    arrived: list[float] = []

    async def echo(call: VoiceCall) -> None:
        await call.send("initialize")
        for _ in range(2):
            call.messages.append(await call.wire.receive_json())
        await call.send("call_connect_response", {"sample_rate": 16_000})
        async for got in call.wire:
            if got.type is not WSMsgType.TEXT or (message := messages.read(got.data)).type != "audio":
                continue
            sound = messages.samples_of(message)
            if np.max(sound) > LOUD // 4 and (not arrived or time.monotonic() - arrived[-1] > 0.1):
                arrived.append(time.monotonic())
            await call.say(sound)

    async with VoiceService(instead=echo) as service, Clicker(service.url) as device:
        device.start()
        await until(lambda: len(device.heard) >= clicks, 20 + 4.0 * clicks)
        rows = []
        for what, times in (("captured to service", arrived), ("captured to service and back", device.heard)):
            # a click may be lost on a busy machine: what is heard is the latest one
            late = [1000 * min(end - start for start in device.clicked if start < end) for end in times]
            p50, p99 = np.percentile(late, (50, 99))
            rows.append({"way": what, "p50 ms": round(float(p50), 1), "p99 ms": round(float(p99), 1)})
        return rows
