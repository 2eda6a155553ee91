"""A hub of one process's own: real HTTP, real aiortc, both dialects, and every fault by script.

It is aiortc as it comes, but for the media: what arrives is kept packet by packet, and played out through
the same `Receiver` that `pinna hub` uses.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

import aiortc
import numpy as np
from aiohttp import web
from aiortc.rtp import RtpPacket
from tests.support.lossy import UdpRelay

from pinna.config import HubConfig
from pinna.frame import FRAME_SAMPLES, Frame, Samples
from pinna.links.media import Receiver, close, opus_only
from pinna.links.opus import Encoder
from pinna.links.sender import PacketTrack

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def tone(frames: int, hertz: float = 440.0) -> list[Samples]:
    """`frames` frames of a tone, continuous over their seams."""
    t = np.arange(frames * FRAME_SAMPLES) / 48_000
    return list((8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16).reshape(frames, FRAME_SAMPLES))


class _Tap:
    """In the place of the receiver's jitter buffer: note each packet, pass it on."""

    def __init__(self, session: HubSession) -> None:
        self._session = session

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        self._session.packets.append(packet)
        return self._session.receiver.add(packet)


@dataclass
class HubSession:
    connection: aiortc.RTCPeerConnection
    receiver: Receiver
    track: PacketTrack
    speech: asyncio.Queue[Samples]
    packets: list[RtpPacket] = field(default_factory=list)
    deleted: bool = False

    @property
    def connected(self) -> bool:
        return self.connection.connectionState == "connected"


class FakeHub:
    """`async with FakeHub("connect") as hub:` -- `hub.config` is what a link needs to reach it."""

    def __init__(
        self,
        dialect: str = "connect",
        *,
        token: str | None = None,
        relay: UdpRelay | None = None,
        port: int = 0,
        rtcp: bool = True,
        edit_answer: Callable[[str], str] = lambda sdp: sdp,
        instead: Handler | None = None,
        track: aiortc.MediaStreamTrack | None = None,
    ) -> None:
        """`instead` answers offers in place of the hub; `track` speaks in place of `HubSession.speech`.

        Without `rtcp` the hub sends no reports.
        """
        self.dialect = dialect
        self.token = token
        self.relay = relay
        self.sessions: list[HubSession] = []
        self.requests: list[web.Request] = []
        self.offers: list[str] = []
        self.bodies: list[dict[str, object]] = []
        self.health_status = 200
        self.started = time.monotonic()
        self._rtcp = rtcp
        self._edit_answer = edit_answer
        self._instead = instead
        self._port = port
        self._track = track
        self._negotiating = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> FakeHub:
        app = web.Application(middlewares=[self._note])
        app.router.add_post("/connect", self._connect)
        app.router.add_get("/health", self._health)
        app.router.add_post("/whip", self._whip)
        app.router.add_get("/whip/{number}", self._resource)
        app.router.add_delete("/whip/{number}", self._delete)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()
        await self._runner.cleanup()
        if self.relay:
            self.relay.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" + ("/whip" if self.dialect == "whip" else "")

    @property
    def config(self) -> HubConfig:
        return HubConfig(url=self.url, dialect="whip" if self.dialect == "whip" else "connect")

    @property
    def session(self) -> HubSession:
        return self.sessions[-1]

    async def hang_up(self) -> None:
        async with self._negotiating:  # aiortc, closed while it gathers, opens sockets that nobody closes
            for session in self.sessions:
                await close(session.connection)
                session.track.stop()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(request)
        if request.method == "POST":
            if self._instead:
                return await self._instead(request)
            if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.json_response({"error": "who are you?"}, status=401)
        return await handler(request)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return web.Response(status=415, text="Expected request with `Content-Type: application/json`")
        body = await request.json()
        self.bodies.append(body)
        return web.json_response({"sdp": await self.answer(body["sdp"])})

    async def _whip(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/sdp":
            return web.Response(status=415)
        answer = await self.answer(await request.text())
        return web.Response(
            status=201,
            text=answer,
            content_type="application/sdp",
            headers={"Location": f"/whip/{len(self.sessions)}"},
        )

    async def _health(self, request: web.Request) -> web.StreamResponse:
        body = {"status": "ok", "uptime_secs": int(time.monotonic() - self.started)}
        return web.json_response(body, status=self.health_status)

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        known = int(request.match_info["number"]) <= len(self.sessions)
        return web.Response(status=405 if known else 404)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        session = self.sessions[int(request.match_info["number"]) - 1]
        session.deleted = True
        await close(session.connection)
        return web.Response()

    async def answer(self, offer: str) -> str:
        """Open a session for the offer."""
        async with self._negotiating:
            return await self._answer(offer)

    async def _answer(self, offer: str) -> str:
        self.offers.append(offer)
        if self.relay:
            offer = await self.relay.rewrite_offer(offer)
        connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        speech: asyncio.Queue[Samples] = asyncio.Queue()

        async def source() -> Frame:
            samples = await speech.get()
            return Frame(samples, next(self._numbers), time.monotonic())

        track = PacketTrack(source, Encoder(32_000))
        transceiver = connection.addTransceiver(self._track or track)
        if self._track is None:
            track.attach(transceiver.sender)
        opus_only(transceiver)
        session = HubSession(connection, Receiver(transceiver.receiver), track, speech)
        transceiver.receiver._RTCRtpReceiver__jitter_buffer = _Tap(session)
        if not self._rtcp:
            _mute_reports(transceiver)
        self.sessions.append(session)
        await connection.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        answer = connection.localDescription.sdp
        return self._edit_answer(self.relay.rewrite_answer(answer) if self.relay else answer)


def _mute_reports(transceiver: aiortc.RTCRtpTransceiver) -> None:
    async def nothing(_: object) -> None:
        pass

    transceiver.sender._send_rtcp = nothing
    transceiver.receiver._send_rtcp = nothing


def json_answer(sdp: object) -> Handler:
    """A handler that answers every offer with this."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=json.dumps({"sdp": sdp}), content_type="application/json")

    return handle
