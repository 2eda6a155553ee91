"""What sending one frame of 20 ms costs, in processor time of a process: ours, aiortc's, and a floor in C.

Ours and aiortc's stream speech-like noise in real time to a hub in another process, with RTP, SRTP, RTCP and
the socket. The floor is GStreamer (libopus, RTP, SRTP, UDP), as fast as it can; two lengths, so that starting
it does not count.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import aiortc
import numpy as np
from tests.bench.link import StockTrack

from pinna.config import HubConfig
from pinna.flow.fanout import Subscription
from pinna.frame import Frame, Samples
from pinna.hub.options import HubOptions
from pinna.hub.server import Hub
from pinna.links.webrtc import WebRTCLink


def _frames() -> Iterator[Samples]:
    rng = np.random.default_rng(1)
    noise = [(rng.standard_normal(960) * 2000).astype(np.int16) for _ in range(50)]
    while True:
        yield from noise


async def _feed(microphone: Subscription, count: int) -> None:
    """Real time, from the wall clock."""
    began = time.monotonic()
    for number, samples in zip(range(count), _frames(), strict=False):
        microphone.put(Frame(samples, number, time.monotonic()))
        await asyncio.sleep(max(0.0, began + (number + 1) * 0.02 - time.monotonic()))


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


async def _send(who: str, url: str, count: int) -> float:
    microphone, ready = Subscription("bench", 200), asyncio.Event()
    link = asyncio.create_task({"ours": _ours, "stock": _stock}[who](url, microphone, ready))
    await asyncio.wait_for(ready.wait(), 15)
    await _feed(microphone, 100)  # warm
    before = _own_cpu()
    await _feed(microphone, count)
    spent = _own_cpu() - before
    link.cancel()
    await asyncio.wait([link])
    return spent / count * 1e6


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _child(who: str, count: int) -> float:
    async with Hub(HubOptions(port=0, mode="listen")) as hub:
        command = [sys.executable, "-m", "tests.bench.sender", who, hub.address, str(count)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return float(out)


def floor(count: int) -> float:
    """Processor seconds of a GStreamer process that sends `count` frames."""
    key = "01" * 30
    pipeline = (
        f"audiotestsrc num-buffers={count} samplesperbuffer=960 wave=pink-noise "
        "! audio/x-raw,rate=48000,channels=1,format=S16LE "
        "! opusenc bitrate=32000 complexity=0 inband-fec=true packet-loss-percentage=20 frame-size=20 "
        f"audio-type=voice bandwidth=wideband ! rtpopuspay ! srtpenc key={key} "
        "! udpsink host=127.0.0.1 port=9 sync=false"
    )
    process = subprocess.Popen(["gst-launch-1.0", "-q", *pipeline.split()], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "gst-launch-1.0 failed: are its plugins installed?"
    return usage.ru_utime + usage.ru_stime


def run(quick: bool) -> list[dict[str, Any]]:
    count = 500 if quick else 1500
    low = (floor(20_000) - floor(1000)) / 19_000 * 1e6
    ours, stock = (asyncio.run(_child(who, count)) for who in ("ours", "stock"))
    return [
        {"sender": name, "cpu_us_per_frame": round(cost, 1), "times_the_floor": round(cost / low, 2)}
        for name, cost in (("C floor (GStreamer)", low), ("pinna", ours), ("aiortc as it comes", stock))
    ]


if __name__ == "__main__":
    print(asyncio.run(_send(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
