"""What sending one frame of 20 ms costs, in processor time of a process: ours, aiortc's, and a floor in C.

All three encode the same pink noise and go on to RTP, SRTP and a socket; ours and aiortc's to a hub in
another process, with RTCP. The floor is GStreamer at our codec settings. Each is measured twice: in real
time, as it is used, waking up with cold caches for each frame; and at full speed, when all is warm and only
the work is left. Rounds are interleaved and the median is told; starting up is never counted.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import aiortc
import numpy as np
from tests.bench.link import StockTrack

from pinna.config import HubConfig
from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_SAMPLES, Frame, Samples
from pinna.hub.options import HubOptions
from pinna.hub.server import Hub
from pinna.links.webrtc import WebRTCLink

CAPS = "audio/x-raw,rate=48000,channels=1,format=S16LE"
WARM_FRAMES = 100


def _feed(microphone: Subscription, sound: Samples, count: int, *, live: bool) -> asyncio.Future[None]:
    """Frames at the cost of a timer each, by the clock if `live`, else when the last one has been taken."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    began = loop.time()

    def put(number: int) -> None:
        if number == count:
            return done.set_result(None)
        if live or not len(microphone):
            microphone.put(Frame(sound[number % len(sound)], number, time.monotonic()))
            number += 1
        if live:
            loop.call_at(began + number * 0.02, put, number)
        else:
            loop.call_soon(put, number)

    put(0)
    return done


class _Silent:
    queued_ms = 0

    def play(self, samples: Samples) -> bool:
        return True


async def _ours(url: str, microphone: Subscription, ready: asyncio.Event) -> None:
    await WebRTCLink(HubConfig(url=url), "bench", microphone, _Silent(), lambda: None, ready.set).run()


async def _stock(url: str, microphone: Subscription, ready: asyncio.Event) -> None:
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    peer.addTrack(StockTrack(microphone.get))
    peer.add_listener(
        "connectionstatechange", lambda: ready.set() if peer.connectionState == "connected" else None
    )
    await peer.setLocalDescription(await peer.createOffer())
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/connect", json={"device_id": "bench", "sdp": peer.localDescription.sdp}) as answer,
    ):
        sdp = (await answer.json())["sdp"]
    await peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp=sdp, type="answer"))
    await asyncio.Event().wait()


async def _send(who: str, url: str, sound: Samples, live: int, fast: int) -> tuple[float, float]:
    """Microseconds per frame, in real time and as fast as it can."""
    microphone, ready = Subscription("bench", 200), asyncio.Event()
    link = asyncio.create_task({"ours": _ours, "stock": _stock}[who](url, microphone, ready))
    await asyncio.wait_for(ready.wait(), 15)
    costs = []
    for count, is_live in ((live, True), (fast, False)):
        await _feed(microphone, sound, WARM_FRAMES, live=is_live)
        before = _own_cpu()
        await _feed(microphone, sound, count, live=is_live)
        costs.append((_own_cpu() - before) / count * 1e6)
    link.cancel()
    await asyncio.wait([link])
    return costs[0], costs[1]


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _child(who: str, sound: Path, live: int, fast: int) -> tuple[float, float]:
    async with Hub(HubOptions(port=0, mode="listen")) as hub:
        arguments = [who, hub.address, str(sound), str(live), str(fast)]
        command = [sys.executable, "-m", "tests.bench.sender", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        in_real_time, at_full_speed = out.split()
        return float(in_real_time), float(at_full_speed)


def _gstreamer(pipeline: str) -> float:
    """Its processor seconds."""
    process = subprocess.Popen(["gst-launch-1.0", "-q", *pipeline.split()], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "gst-launch-1.0 failed: are its plugins installed?"
    return usage.ru_utime + usage.ru_stime


def _floor(port: int, count: int, *, live: bool) -> float:
    """Microseconds per frame of GStreamer; two lengths, so that its start does not count."""

    def cost(frames: int) -> float:
        return _gstreamer(
            f"audiotestsrc num-buffers={frames} samplesperbuffer=960 wave=pink-noise is-live={live} ! {CAPS} "
            "! opusenc bitrate=32000 bitrate-type=vbr complexity=0 inband-fec=true packet-loss-percentage=20 "
            "frame-size=20 audio-type=voice bandwidth=wideband "
            f"! rtpopuspay ! srtpenc key={'01' * 30} ! udpsink host=127.0.0.1 port={port} sync=false"
        )

    return (cost(WARM_FRAMES + count) - cost(WARM_FRAMES)) / count * 1e6


def _sound(folder: str) -> Path:
    """10 s of the floor's own noise, for the others."""
    path = Path(folder, "noise.raw")
    source = "audiotestsrc num-buffers=500 samplesperbuffer=960 wave=pink-noise"
    _gstreamer(f"{source} ! {CAPS} ! filesink location={path}")
    return path


def run(quick: bool) -> list[dict[str, Any]]:
    rounds, live, fast = (3, 300, 1500) if quick else (5, 750, 3000)
    costs = []
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
    ):
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        sound = _sound(folder)
        for _ in range(rounds):
            floor = _floor(port, live, live=True), _floor(port, 5 * fast, live=False)
            peers = [asyncio.run(_child(who, sound, live, fast)) for who in ("ours", "stock")]
            costs.append([floor, *peers])
    table = np.array(costs)  # (rounds, senders, ways)
    cost, times = np.median(table, axis=0), np.median(table / table[:, :1], axis=0)
    return [
        {
            "sender": name,
            "real time, us per frame": round(cost[k, 0]),
            "times the floor": round(float(times[k, 0]), 2),
            "full speed, us per frame": round(cost[k, 1]),
            "times the floor at full speed": round(float(times[k, 1]), 2),
        }
        for k, name in enumerate(("C floor (GStreamer)", "pinna", "aiortc as it comes"))
    ]


if __name__ == "__main__":
    who, url, path, *counts = sys.argv[1:]
    recorded = np.fromfile(path, np.int16).reshape(-1, FRAME_SAMPLES)
    print(*asyncio.run(_send(who, url, recorded, *map(int, counts))))
