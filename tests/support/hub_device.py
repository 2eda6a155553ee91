"""A device for the hub: a plain aiortc peer that says what it is given and keeps what it hears."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, SILENCE, Samples
from pinna.hub.wav import read_frames


@cache
def speech(words: str) -> Samples:
    """Synthesized speech as frames, shape (n, 960)."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "speech.wav"
        subprocess.run(["espeak-ng", "-w", path, words], check=True)
        return read_frames(path)


def tone(hertz: float, seconds: float) -> Samples:
    """A sine at half of full scale as frames."""
    t = np.arange(int(seconds * 50) * FRAME_SAMPLES) / SAMPLE_RATE
    return (16_000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16).reshape(-1, FRAME_SAMPLES)


def strength(samples: Samples, hertz: float) -> float:
    """Which part of the power of `samples` lies within 20 Hz of `hertz`: 0 to 1."""
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE)
    return float(power[np.abs(frequencies - hertz) < 20].sum() / max(power.sum(), 1e-9))


class Mouth(MediaStreamTrack):
    """Says the frames once, or for ever, then silence."""

    kind = "audio"

    def __init__(self, frames: Samples, repeat: bool) -> None:
        super().__init__()
        self._frames = frames
        self._repeat = repeat
        self._count = 0
        self._start: float | None = None

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = asyncio.get_running_loop().time()
        self._start = self._start or now
        await asyncio.sleep(max(0.0, self._start + self._count * 0.02 - now))
        at = self._count % len(self._frames) if self._repeat else self._count
        samples = self._frames[at] if at < len(self._frames) else SILENCE
        # Stereo, for aiortc would make it that at 3 dB less.
        frame = av.AudioFrame.from_ndarray(samples.repeat(2)[None, :], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = (
            SAMPLE_RATE,
            self._count * 960,
            Fraction(1, SAMPLE_RATE),
        )
        self._count += 1
        return frame


class Device:
    """`says`: frames. `heard`: mono samples as they came, one array a packet."""

    def __init__(self, says: Samples | None = None, *, repeat: bool = False) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pc.addTrack(Mouth(SILENCE[None, :] if says is None else says, repeat))
        self.heard: list[Samples] = []
        self.answer = ""
        self._ear: asyncio.Task[None] | None = None
        self.pc.on("track", self._hear)

    async def offer(self) -> str:
        await self.pc.setLocalDescription()
        return self.pc.localDescription.sdp

    async def accept(self, answer: str) -> None:
        self.answer = answer
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def connect(self, http: aiohttp.ClientSession, device_id: str) -> None:
        """By the `connect` dialect, until media can flow."""
        body = {"device_id": device_id, "sdp": await self.offer(), "supported_output_codecs": ["pcm_s16le"]}
        async with http.post("/connect", json=body) as response:
            assert response.status == 200, await response.text()
            await self.accept((await response.json())["sdp"])
        await eventually(lambda: self.pc.connectionState == "connected")

    def hearing(self) -> Samples:
        return np.concatenate([np.zeros(0, np.int16), *self.heard])

    async def close(self) -> None:
        await self.pc.close()
        if self._ear is not None:
            await self._ear

    def _hear(self, track: MediaStreamTrack) -> None:
        self._ear = asyncio.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                self.heard.append(frame.to_ndarray().reshape(-1, 2)[:, 0])  # aiortc decodes to packed stereo
        except MediaStreamError:
            pass


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for the condition; the time is only there to end a test that has failed."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  the conditions are other programs' states, without events
            await asyncio.sleep(0.02)


@asynccontextmanager
async def device(
    http: aiohttp.ClientSession, device_id: str, says: Samples | None = None, *, repeat: bool = False
) -> AsyncIterator[Device]:
    """A connected device for the length of the block."""
    peer = Device(says, repeat=repeat)
    try:
        await peer.connect(http, device_id)
        yield peer
    finally:
        await peer.close()
