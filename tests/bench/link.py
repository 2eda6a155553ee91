"""The link's two halves against aiortc as it comes: latency and missing frames.

In-process peers, real UDP over a relay that drops media packets by a fixed seed. Each frame carries its own
number as a tone, so a receiver's sound tells which frame it is, whatever lies between.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import aiortc
import av
import numpy as np
from aiortc.mediastreams import MediaStreamError
from tests.support.lossy import Script, UdpRelay

from pinna.frame import FRAME_SAMPLES, Frame, Samples
from pinna.links.media import Receiver, close, opus_only
from pinna.links.opus import Encoder
from pinna.links.sender import PacketTrack

TONES = 40
"""Frame n carries tone n modulo this: 800 ms before a number comes again."""

FADE = np.minimum(1.0, np.minimum(np.arange(960), np.arange(960)[::-1]) / 96)


def numbered(number: int) -> Samples:
    hertz = 300 + 100 * (number % TONES)
    return (9000 * FADE * np.sin(2 * np.pi * hertz * np.arange(FRAME_SAMPLES) / 48_000)).astype(np.int16)


def number_in(window: Samples) -> int | None:
    """Which tone is the loudest in 20 ms of sound; None in silence."""
    spectrum = np.abs(np.fft.rfft(window * np.hanning(len(window)), 4800))
    peak = int(np.argmax(spectrum[:600])) * 10
    number = round((peak - 300) / 100)
    return number if np.abs(window).mean() > 300 and 0 <= number < TONES else None


class StockTrack(aiortc.MediaStreamTrack):
    """The same frames, for aiortc to encode."""

    kind = "audio"

    def __init__(self, source: Callable[[], Awaitable[Frame]]) -> None:
        super().__init__()
        self._source = source

    async def recv(self) -> av.AudioFrame:
        frame = await self._source()
        audio = av.AudioFrame.from_ndarray(frame.samples.reshape(1, -1), format="s16", layout="mono")
        audio.sample_rate, audio.pts = 48_000, frame.sequence * FRAME_SAMPLES
        audio.time_base = Fraction(1, 48_000)
        return audio


async def _session(ours: bool, loss: float, seconds: float) -> dict[str, Any]:
    configuration = aiortc.RTCConfiguration(iceServers=[])
    device, hub = aiortc.RTCPeerConnection(configuration), aiortc.RTCPeerConnection(configuration)
    relay = UdpRelay(up=Script(loss=loss, longest_gap=5))
    captured: dict[int, float] = {}
    numbers = itertools.count()
    start: list[float] = []

    async def source() -> Frame:
        number = next(numbers)
        start[:] = start or [time.monotonic()]  # the sender's first call: the session is up
        await asyncio.sleep(max(0.0, start[0] + number * 0.02 - time.monotonic()))
        captured[number] = time.monotonic()
        return Frame(numbered(number), number, captured[number])

    track = PacketTrack(source, Encoder(32_000)) if ours else StockTrack(source)
    sending = device.addTransceiver(track)
    if isinstance(track, PacketTrack):
        track.attach(sending.sender)
    receiving = hub.addTransceiver("audio", direction="recvonly")
    opus_only(sending)
    opus_only(receiving)
    receiver = Receiver(receiving.receiver) if ours else None
    await device.setLocalDescription(await device.createOffer())
    offer = await relay.rewrite_offer(device.localDescription.sdp)
    await hub.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
    await hub.setLocalDescription(await hub.createAnswer())
    answer = relay.rewrite_answer(hub.localDescription.sdp)
    await device.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
    while hub.connectionState != "connected":  # noqa: ASYNC110 -- a bench
        await asyncio.sleep(0.01)

    heard: list[tuple[float, Samples]] = []

    async def hear_ours() -> None:
        assert receiver
        begin = time.monotonic()
        for tick in itertools.count(1):
            await asyncio.sleep(max(0.0, begin + tick * 0.02 - time.monotonic()))
            frame = receiver.frame(time.monotonic())
            if frame is not None:
                heard.append((time.monotonic(), frame))

    async def hear_stock() -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await receiving.receiver.track.recv()
                heard.append((time.monotonic(), frame.to_ndarray().reshape(-1, 2)[:, 0].copy()))

    task = asyncio.create_task(hear_ours() if ours else hear_stock())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    await close(device)
    await close(hub)
    relay.close()

    return {"who": "pinna" if ours else "aiortc", "loss_percent": round(loss * 100)} | _judge(
        captured, heard, relay
    )


def _judge(
    captured: dict[int, float], heard: list[tuple[float, Samples]], relay: UdpRelay
) -> dict[str, float]:
    """Latency: from a frame's capture (its last sample) to being handed out for playing."""
    latencies: dict[int, float] = {}
    for at, samples in heard:
        tone = number_in(samples)
        recent = [n for n, t in captured.items() if n % TONES == tone and 0 <= at - t < 0.75]
        if recent:
            latencies.setdefault(max(recent), at - captured[max(recent)])
    seen = [n for n in captured if min(latencies, default=0) <= n <= max(latencies, default=0)]
    values = np.array(list(latencies.values())) * 1000
    return {
        "latency_p50_ms": round(float(np.percentile(values, 50)), 1),
        "latency_p99_ms": round(float(np.percentile(values, 99)), 1),
        "dropped_percent": round(100 * relay.up.dropped / max(1, relay.up.seen), 1),
        "missing_percent": round(100 * (1 - len(latencies) / max(1, len(seen))), 1),
        "frames": len(seen),
    }


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of figures, ours and aiortc's in turn. `quick`: a fifth of the time."""
    seconds = 6.0 if quick else 30.0

    async def everything() -> list[dict[str, Any]]:
        rows = []
        for loss in (0.0, 0.05, 0.20):
            rows += [await _session(ours, loss, seconds) for ours in (True, False)]
        return rows

    return asyncio.run(everything())


if __name__ == "__main__":
    import json
    import sys

    for row in run("--quick" in sys.argv):
        print(json.dumps(row))
