"""A UDP relay between two ICE peers that does to media packets what networks do, by a fixed seed.

Real datagrams between real sockets: each side is told (candidates rewritten in the SDP) that the relay is the
other. STUN, DTLS and RTCP pass untouched, so that a session comes up whatever is scripted for its media;
`cut` stops everything.
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass

CANDIDATE = re.compile(
    r"^a=candidate:(?P<head>\S+ \d+ udp \d+) (?P<ip>\d+\.\d+\.\d+\.\d+) (?P<port>\d+) typ host.*\r\n",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Script:
    """What happens to each media packet of one direction: probabilities, and seconds."""

    loss: float = 0.0
    longest_gap: int = 1000  # packets; a longer run of losses is broken
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_seconds: float = 0.030
    burst_every: float = 0.0  # each so many seconds the network stands still ...
    burst_seconds: float = 0.200  # ... for so long, and then delivers everything at once
    seed: int = 1


CLEAN = Script()


class _Direction:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen = self.dropped = 0
        self._random = random.Random(script.seed)
        self._run = 0

    def delays(self, now: float) -> list[float]:
        """When to deliver the packet: an empty list drops it, two entries double it."""
        script, roll = self.script, self._random.random
        self.seen += 1
        if roll() < script.loss and self._run < script.longest_gap:
            self._run += 1
            self.dropped += 1
            return []
        self._run = 0
        delay = script.reorder_seconds if roll() < script.reorder else 0.0
        if script.burst_every and (into := now % script.burst_every) < script.burst_seconds:
            delay = max(delay, script.burst_seconds - into)
        return [delay, delay] if roll() < script.duplicate else [delay]


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, relay: UdpRelay, *, faces_device: bool) -> None:
        self._relay = relay
        self._faces_device = faces_device
        self.peer: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer = addr
        self._relay.forward(data, from_device=self._faces_device)


class UdpRelay:
    """Between one device and one hub. `up` is from the device, `down` from the hub."""

    def __init__(self, up: Script = CLEAN, down: Script = CLEAN) -> None:
        self.up, self.down = _Direction(up), _Direction(down)
        self.cut = False
        self._timers: set[asyncio.TimerHandle] = set()

    async def rewrite_offer(self, sdp: str) -> str:
        match = CANDIDATE.search(sdp)
        assert match, "the offer has no IPv4 host candidate"
        loop = asyncio.get_running_loop()
        _, self._device = await loop.create_datagram_endpoint(
            lambda: _Socket(self, faces_device=True), (match["ip"], 0)
        )
        _, self._hub = await loop.create_datagram_endpoint(
            lambda: _Socket(self, faces_device=False), (match["ip"], 0)
        )
        return self._rewrite(sdp, match, self._hub)

    def rewrite_answer(self, sdp: str) -> str:
        match = CANDIDATE.search(sdp)
        assert match, "the answer has no IPv4 host candidate"
        self._hub.peer = (match["ip"], int(match["port"]))
        return self._rewrite(sdp, match, self._device)

    def _rewrite(self, sdp: str, match: re.Match[str], socket: _Socket) -> str:
        ip, port = socket.transport.get_extra_info("sockname")
        line = f"a=candidate:{match['head']} {ip} {port} typ host\r\n"
        others = re.sub(r"^a=candidate:.*\r\n", "", sdp, flags=re.MULTILINE)
        return others.replace("a=end-of-candidates", f"{line}a=end-of-candidates", 1)

    def forward(self, data: bytes, *, from_device: bool) -> None:
        if self.cut:
            return
        direction = self.up if from_device else self.down
        loop = asyncio.get_running_loop()
        is_media = 128 <= data[0] < 192 and not 192 <= data[1] <= 208
        for delay in direction.delays(loop.time()) if is_media else [0.0]:
            if delay:
                timer = loop.call_later(delay, self._send, data, from_device)
                self._timers.add(timer)
            else:
                self._send(data, from_device)

    def _send(self, data: bytes, from_device: bool) -> None:
        socket = self._hub if from_device else self._device
        if socket.peer and not socket.transport.is_closing():
            socket.transport.sendto(data, socket.peer)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for name in ("_device", "_hub"):
            if socket := getattr(self, name, None):
                socket.transport.close()
