"""How late sound is on its way to a voice service on this machine, and from it to the loudspeaker, by parts.

The link alone, with a clock for a sound card: gate, resamplers, pieces, socket, playout, and the queue of the
loudspeaker, in one process with the service. Then the whole agent on a sound server in memory, whose cable
leads from its loudspeaker back to its microphone; `parec` hears what passes at either.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import subprocess
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType
from tests.support.link_device import until
from tests.support.programs import agent
from tests.support.voice_device import VoiceDevice
from tests.support.voice_service import VoiceCall, VoiceService

from pinna.audio.playback import PlaybackQueue
from pinna.demo.sound import VirtualSound
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, SILENCE, Frame, Samples
from pinna.links import voice_messages as messages
from pinna.links.pieces import PIECE_MS

RATE = 24_000
"""Of the service's voice."""

PIECE = RATE * PIECE_MS // 1000
LOUD = 12_000
CLICK_MS = 2
APART_SECONDS = 1.0
SETTLING = 10
"""Clicks that do not count: a call begins before the sound card is open, and what was said waits for it."""

QUIET_SECONDS = 0.3
"""After a click no other is looked for: what rings is the same one."""


class Ear:
    """Finds clicks in pieces of sound. `heard`: when each one's first loud sample was, or came."""

    def __init__(self) -> None:
        self.heard: list[float] = []

    def listen(self, sound: Samples, first_at: float, rate: float = float("inf")) -> None:
        """Its samples are of, or come at, `first_at` and on."""
        loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > LOUD // 4)
        if len(loud):
            at = first_at + float(loud[0]) / rate
            if not self.heard or at - self.heard[-1] > QUIET_SECONDS:
                self.heard.append(at)


def latencies(made: list[float], heard: list[float]) -> list[float]:
    """Milliseconds from each click to its being heard; one that was lost is left out."""
    found = []
    for start, following in zip(made, [*made[1:], float("inf")], strict=True):
        ends = [end for end in heard if start <= end < following]
        found += [1000 * (ends[0] - start)] if ends else []
    return found


def row(what: str, times: list[float], floor: str) -> dict[str, Any]:
    p50, p99 = np.percentile(times, (50, 99))
    return {"way": what, "p50 ms": round(float(p50), 1), "p99 ms": round(float(p99), 1), "floor ms": floor}


class Service:
    """What the service does in a call: it clicks in its own time, and hears clicks."""

    def __init__(self) -> None:
        self.made: list[float] = []
        self.ear = Ear()

    async def __call__(self, call: VoiceCall) -> None:
        await call.send("initialize")
        for _ in range(2):
            call.messages.append(await call.wire.receive_json())
        await call.send("call_connect_response", {"sample_rate": RATE})
        speaking = asyncio.create_task(self._speak(call))
        try:
            async for got in call.wire:
                if got.type is WSMsgType.TEXT and (message := messages.read(got.data)).type == "audio":
                    self.ear.listen(messages.samples_of(message), time.monotonic())
        finally:
            speaking.cancel()

    async def _speak(self, call: VoiceCall) -> None:
        chance = random.Random(1)
        due = time.monotonic()
        number, every = 0, int(APART_SECONDS * 1000) // PIECE_MS
        while True:
            due += PIECE_MS / 1000
            await asyncio.sleep(due - time.monotonic())
            piece = np.zeros(PIECE, np.int16)
            number += 1
            if number % every == 0:
                at = chance.randrange(PIECE - CLICK_MS * RATE // 1000)
                piece[at : at + CLICK_MS * RATE // 1000] = LOUD
                self.made.append(
                    time.monotonic() + at / RATE
                )  # its place, if the piece is played as it comes
            await call.say(piece)


class Clicker(VoiceDevice):
    """A sound card of ticks: before its microphone somebody clicks, and each tick plays from the queue."""

    def __init__(self, url: str) -> None:
        super().__init__(url, mode="always")
        self.playback = PlaybackQueue()
        self.speaker.play = self.playback.play  # type: ignore[method-assign]
        self.ring = self.playback.attach(SAMPLE_RATE)
        self.microphone = self
        self.made: list[float] = []
        self.ear = Ear()
        self._chance = random.Random(2)

    def put(self, frame: Frame) -> None:
        played = np.zeros(FRAME_SAMPLES, np.int16)
        self.ring.get_into(played)
        self.ear.listen(played, time.monotonic(), SAMPLE_RATE)
        self.speaker.queued_ms = self.playback.queued_ms
        samples = SILENCE.copy()
        width = CLICK_MS * SAMPLE_RATE // 1000
        if frame.sequence % int(APART_SECONDS * 50 + 1) == 25 and self.link.stats.connected:
            at = self._chance.randrange(FRAME_SAMPLES - width)
            samples[at : at + width] = LOUD
            self.made.append(frame.captured_at - (FRAME_SAMPLES - at) / SAMPLE_RATE)
        self.gate.put(dataclasses.replace(frame, samples=samples))


async def _link(clicks: int) -> list[dict[str, Any]]:
    talk = Service()
    async with VoiceService(instead=talk) as service, Clicker(service.url) as device:
        device.start()
        await until(lambda: min(len(device.ear.heard), len(talk.ear.heard)) >= clicks, 20 + 4.0 * clicks)
        stats = device.link.stats
    waits = {
        "p50 ms": round(stats.send_delay_p50_ms or 0, 1),
        "p99 ms": round(stats.send_delay_p99_ms or 0, 1),
    }
    return [
        row("link: sample to service", latencies(device.made, talk.ear.heard), "20: a piece of 40 fills"),
        {"way": "of it: from a piece's last frame to the socket", **waits, "floor ms": "0"},
        row("link: service to loudspeaker's queue's end", latencies(talk.made, device.ear.heard), "0"),
    ]


async def _overhear(sound: VirtualSound, sink: str, ear: Ear) -> None:
    """Note when clicks pass a device."""
    command = ["parec", f"--device={sink}.monitor", "--raw", "--format=s16le", f"--rate={SAMPLE_RATE}"]
    command += ["--channels=1", "--latency-msec=10"]
    running = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=sound.environment)
    assert running.stdout is not None
    try:
        while data := await running.stdout.read(1 << 14):
            now, samples = time.monotonic(), np.frombuffer(data[: len(data) // 2 * 2], np.int16)
            ear.listen(samples, now - len(samples) / SAMPLE_RATE, SAMPLE_RATE)
    finally:
        running.kill()
        await running.wait()


async def _agent(clicks: int, folder: Path, sound: VirtualSound) -> list[dict[str, Any]]:
    talk, speaker, microphone = Service(), Ear(), Ear()
    (folder / "token").write_text("token-of-the-bench")
    (folder / "token").chmod(0o600)
    flags = ["--hub-dialect", "websocket", "--hub-token-file", str(folder / "token")]
    flags += ["--echo-engine", "none", "--session-state-dir", str(folder / "state")]
    ears = [
        asyncio.create_task(_overhear(sound, sink, ear))
        for sink, ear in (("speaker", speaker), ("mic", microphone))
    ]
    try:
        async with VoiceService(instead=talk) as service:
            with agent(sound, folder, service.url, *flags, wait=False) as running:
                await until(lambda: len(talk.ear.heard) >= SETTLING, 60)
                talk.made.clear()
                await until(lambda: len(talk.made) > clicks, 4.0 * clicks)
                await asyncio.to_thread(running.wait_listening)
                health = await asyncio.to_thread(running.health)
    finally:
        for task in ears:
            task.cancel()
        await asyncio.wait(ears)
    rows = [
        row("agent: microphone to service", latencies(microphone.heard, talk.ear.heard), "20"),
        row("agent: service to loudspeaker", latencies(talk.made, speaker.heard), "0"),
        row("agent: there and back, with the cable", latencies(talk.made, talk.ear.heard), "20"),
    ]
    # Each time leaves more of the microphone's sound waiting in the sound server, for good.
    return [{**each, "ran dry": health["audio"]["output_underflows"]} for each in rows]


def run(quick: bool) -> list[dict[str, Any]]:
    clicks = 10 if quick else 60
    rows = asyncio.run(_link(clicks))
    with tempfile.TemporaryDirectory() as folder, VirtualSound() as sound:
        command = ["pactl", "load-module", "module-loopback", "source=speaker.monitor", "sink=mic"]
        subprocess.run(
            [*command, "latency_msec=10"], env=sound.environment, check=True, capture_output=True, timeout=20
        )
        return rows + asyncio.run(_agent(clicks, Path(folder), sound))
