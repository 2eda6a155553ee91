"""One WebRTC peer that offered and was answered: a device, or a browser that listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)

from pinna.links import media
from pinna.links.sender import PacketTrack

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_MEDIA_SECTIONS: Final = 8
NEGOTIATION_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 15.0  # from the answer to DTLS done
CLOSE_SECONDS: Final = 1.5


class NegotiationError(Exception):
    """The offer cannot be answered."""


class Peer:
    """An answered connection with one audio transceiver, Opus only. `gone` is told why it ended, maybe twice.

    `track`: what is sent. `silence_seconds`: without any RTP or RTCP for
    that long the peer is gone, much sooner than ICE notices (30 s).
    """

    def __init__(self, track: PacketTrack, silence_seconds: float, gone: Callable[[str], None]) -> None:
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._gone = gone
        self._silence_seconds = silence_seconds
        self._packets_seen = 0
        self._alive_at = asyncio.get_running_loop().time()
        self._closing: asyncio.Task[None] | None = None
        # aiortc, closed while it gathers candidates, goes on to open sockets that nobody closes.
        self._negotiating = asyncio.Lock()
        self.transceiver: RTCRtpTransceiver = self._pc.addTransceiver(track)
        track.attach(self.transceiver.sender)
        media.opus_only(self.transceiver)
        self._pc.on("connectionstatechange", self._changed)

    @property
    def connected(self) -> bool:
        """ICE and DTLS are done: media can flow."""
        return self._closing is None and self._pc.connectionState == "connected"

    @property
    def receives(self) -> bool:
        """Whether the peer wants to hear us."""
        return self.transceiver.currentDirection in ("sendrecv", "sendonly")

    async def answer(self, offer: str) -> str:
        """Raises NegotiationError, also when the peer was closed meanwhile."""
        if offer.count("\nm=") > MAX_MEDIA_SECTIONS:
            raise NegotiationError("the offer has too many media sections")
        async with self._negotiating:
            await self._negotiate(_without_mdns(offer))
        answer = self._pc.localDescription
        if self._closing is not None or answer is None:
            raise NegotiationError("another session took this one's place")
        if "a=candidate:" not in answer.sdp:
            raise NegotiationError("the hub's machine has no network address besides loopback")
        self._alive_at = asyncio.get_running_loop().time()
        return str(answer.sdp)

    def watch(self) -> None:
        """To be called about once a second: notices a peer that fell silent, or never connected."""
        now = asyncio.get_running_loop().time()
        packets = self._packets_received()
        if packets != self._packets_seen:
            self._packets_seen = packets
            self._alive_at = now
        patience = self._silence_seconds if self.connected else CONNECT_SECONDS
        if self._closing is None and now - self._alive_at > patience:
            self._gone("silent" if self.connected else "never connected")

    async def close(self) -> None:
        """Tell the peer (DTLS close) and free everything, within 1.5 s. A second call waits for the first."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _negotiate(self, offer: str) -> None:
        try:
            async with asyncio.timeout(NEGOTIATION_SECONDS):
                await self._pc.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
                if self.transceiver.mid is None:
                    raise NegotiationError("the offer has no audio")
                for other in self._pc.getTransceivers():
                    if other is not self.transceiver:
                        other.direction = "inactive"
                await self._pc.setLocalDescription()
        except NegotiationError:
            raise
        except TimeoutError as error:
            raise NegotiationError("the negotiation took too long") from error
        except Exception as error:  # aiortc's parser raises whatever the offer makes it stumble over
            raise NegotiationError(f"the offer cannot be used: {error or type(error).__name__}") from error

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS), self._negotiating:
                await media.close(self._pc)
        except TimeoutError:
            log.warning("hub.peer_close_stuck")

    def _changed(self) -> None:
        state = self._pc.connectionState
        if self._closing is None and state in ("failed", "closed"):
            self._gone("left" if state == "closed" else "connection failed")

    def _packets_received(self) -> int:
        report = self.transceiver.receiver.transport._get_stats()
        return sum(stats.packetsReceived for stats in report.values())


def _without_mdns(offer: str) -> str:
    """The offer less the candidates with `.local` names, by which browsers hide their address.

    To look one up takes multicast, seconds, and often fails. Ours are enough: the peer's checks reach us and
    show its address. That takes waiting for them, so the offer must not claim to be complete either.
    """
    lines = offer.splitlines()
    kept = [line for line in lines if not (line.startswith("a=candidate:") and ".local " in line)]
    if not any(line.startswith("a=candidate:") for line in kept):
        kept = [line for line in kept if line != "a=end-of-candidates"]
    return "\r\n".join([*kept, ""])
