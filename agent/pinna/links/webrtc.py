"""The WebRTC link: the microphone to the hub, the hub's speech to the loudspeaker.

One clock paces both directions while a session is up, the microphone's: each frame taken from it is also the
tick that takes one frame from the jitter buffer to the speaker. Microphone and loudspeaker belong to one
PortAudio stream, so at this pace the speaker's queue neither fills nor drains, and the hub's clock is matched
in the jitter buffer alone, where dropping and stretching is done with care. Only when the microphone pauses
(muted, unplugged) does a timer take over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final

import aiohttp
import aiortc
import numpy as np
from aiortc.stats import RTCStatsReport, RTCTransportStats

from pinna.config import HubConfig
from pinna.errors import ConfigError, HubAnswerError, HubUnreachableError, PinnaError
from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_MS, Frame
from pinna.links import LinkStats, Speaker
from pinna.links.ending import to_the_end
from pinna.links.media import Receiver, close, opus_only
from pinna.links.opus import Encoder
from pinna.links.sender import PacketTrack
from pinna.links.signalling import CONNECT_SECONDS, IceServer, Signalling, shown

MEDIA_SECONDS: Final = 10.0
"""From the answer to the first moment at which media can flow (ICE and DTLS)."""

SILENT_SECONDS: Final = 2.5
"""A hub sends RTCP about every second, speech or not; after this long without anything, it is asked for."""

POLL_SECONDS: Final = 0.5
ASK_SECONDS: Final = 2.0
MICROPHONE_PAUSE_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 2.0


class WebRTCLink:
    """Implements `pinna.links.Link`. `read_token` is asked before each session; it may raise a PinnaError."""

    def __init__(
        self,
        config: HubConfig,
        device_id: str,
        microphone: Subscription,
        speaker: Speaker,
        read_token: Callable[[], str | None],
        connected: Callable[[], object] = lambda: None,
    ) -> None:
        self._config = config
        self._device_id = device_id
        self._microphone = microphone
        self._speaker = speaker
        self._read_token = read_token
        self._connected = connected
        self._past = LinkStats()
        self._session: _Session | None = None
        self._offered_ice_servers: tuple[IceServer, ...] = ()  # by the hub's last answer

    @property
    def stats(self) -> LinkStats:
        return self._session.add_to(self._past) if self._session else self._past

    async def run(self) -> None:
        connections = self._past.connections
        try:
            await self._run()
        except Exception as error:
            failed = self._past.connections == connections
            self._past = replace(
                self._past,
                connection_failures=self._past.connection_failures + failed,
                last_error=str(error) or type(error).__name__,
            )
            raise

    async def _run(self) -> None:
        http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        signalling: Signalling | None = None
        session: _Session | None = None
        try:
            signalling = Signalling(http, self._config, self._device_id, self._read_token())
            session = _Session(self._config, self._microphone, self._speaker, self._offered_ice_servers)
            answer = await signalling.offer(await session.offer())
            self._offered_ice_servers = signalling.ice_servers
            await session.connect(answer)
            self._past = replace(self._past, connections=self._past.connections + 1, last_error=None)
            self._session = session
            self._connected()
            await session.stream(signalling.alive)
        finally:
            if self._session is not None:
                self._past = replace(self._session.add_to(self._past), connected=False)
                self._session = None
            await to_the_end(_close(session, signalling, http))


async def _close(
    session: _Session | None, signalling: Signalling | None, http: aiohttp.ClientSession
) -> None:
    async def end() -> None:
        if signalling is not None:
            await signalling.end()
        await http.close()

    ending = [end()] if session is None else [session.close(), end()]
    await asyncio.gather(*ending)


class _Session:
    """One peer connection, from offer to close."""

    def __init__(
        self,
        config: HubConfig,
        microphone: Subscription,
        speaker: Speaker,
        offered_ice_servers: tuple[IceServer, ...],
    ) -> None:
        self._hub = shown(config)
        self._microphone = microphone
        self._speaker = speaker
        self._changed = asyncio.Event()  # the connection's state, or a failure
        self._failure: BaseException | None = None
        self._lone_tick: asyncio.TimerHandle | None = None  # while streaming: for when the microphone pauses

        # aiortc's default is a public STUN server on the internet.
        servers = [aiortc.RTCIceServer(urls=url) for url in config.ice_servers] or [
            aiortc.RTCIceServer(urls=s.url, username=s.username, credential=s.credential)
            for s in offered_ice_servers
        ]
        encoder = Encoder(config.bitrate, config.complexity)
        self._connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=servers))
        self._track = PacketTrack(self._next_frame, encoder)
        try:
            transceiver = self._connection.addTransceiver(self._track)
        except ValueError as error:
            raise ConfigError(
                f"hub.ice_servers holds an address that is none ({error})",
                hint="Write each as stun:host:port",
                permanent=True,
            ) from None
        opus_only(transceiver)
        self._receiver = Receiver(transceiver.receiver)
        self._track.attach(transceiver.sender)
        self._track.add_listener("ended", self._changed.set)
        self._connection.add_listener("connectionstatechange", self._on_state_change)

    def _on_state_change(self) -> None:
        if self._connection.connectionState == "connected":
            self._microphone.clear()  # what was said before there was a session is not for the hub
        self._changed.set()

    async def offer(self) -> str:
        # Cancelled while it gathers candidates, aioice forgets the sockets it has opened. It takes
        # milliseconds, with a STUN server that does not answer five seconds.
        await to_the_end(self._connection.setLocalDescription(await self._connection.createOffer()))
        sdp = self._connection.localDescription.sdp
        if "a=candidate:" not in sdp:
            raise HubUnreachableError(
                f"there is no network by which to reach the hub at {self._hub}",
                hint="Check cable or Wi-Fi: no interface has an address",
            )
        return sdp

    async def connect(self, answer: str) -> None:
        """Returns once media can flow. Raises HubAnswerError, HubUnreachableError."""
        try:
            async with asyncio.timeout(MEDIA_SECONDS):
                try:
                    await self._connection.setRemoteDescription(
                        aiortc.RTCSessionDescription(sdp=answer, type="answer")
                    )
                except Exception:  # noqa: BLE001 -- aiortc meets a bad answer with whatever comes
                    raise HubAnswerError(
                        f"the answer of {self._hub} does not fit our offer",
                        hint="Check that `hub.url` and `hub.dialect` are those of a hub",
                    ) from None
                while self._connection.connectionState != "connected":
                    if self._connection.connectionState in {"failed", "closed"}:
                        raise TimeoutError
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise HubUnreachableError(
                f"the hub at {self._hub} answers, but no media gets through",
                hint="Check that UDP between this device and the hub is not blocked",
            ) from None

    async def stream(self, alive: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Until the connection ends, which is an error."""
        self._tick_at(time.monotonic() + MICROPHONE_PAUSE_SECONDS)
        try:
            await self._watch(alive)
        finally:
            if self._lone_tick is not None:
                self._lone_tick.cancel()
                self._lone_tick = None

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await close(self._connection)
        except TimeoutError:
            pass  # aiortc waits for a task that has died; there is nothing more to be had
        self._track.stop()

    def add_to(self, past: LinkStats) -> LinkStats:
        received = self._receiver.stats
        delays = np.array(self._track.send_delays) * 1000
        p50, p99 = np.percentile(delays, (50, 99)) if len(delays) else (None, None)
        return replace(
            past,
            connected=self._connection.connectionState == "connected",
            frames_sent=past.frames_sent + self._track.sent,
            frames_received=past.frames_received + received.received - received.duplicates,
            frames_concealed=past.frames_concealed + received.concealed,
            frames_recovered=past.frames_recovered + received.recovered,
            packets_lost=past.packets_lost + received.lost,
            jitter_ms=received.jitter_ms,
            playout_delay_ms=received.target_ms,
            rtt_ms=None if self._track.rtt is None else self._track.rtt * 1000,
            send_delay_p50_ms=p50,
            send_delay_p99_ms=p99,
        )

    async def _next_frame(self) -> Frame:
        """The track's source: the next microphone frame, and with it one tick of the loudspeaker."""
        if len(self._microphone):  # frames in a row, after a stall: let packets in between them
            await asyncio.sleep(0)
        frame = await self._microphone.get()
        if frame.held:  # a burst: the timer has ticked for its time
            return frame
        if self._lone_tick is not None:
            self._tick_at(time.monotonic() + MICROPHONE_PAUSE_SECONDS)
        self._tick()
        return frame

    def _tick(self) -> None:
        samples = self._receiver.frame(time.monotonic())
        if samples is not None:
            self._speaker.play(samples)

    def _tick_at(self, due: float) -> None:
        """Tick at `due`, of the event loop's clock, and on from there, unless told otherwise before."""
        if self._lone_tick is not None:
            self._lone_tick.cancel()
        self._lone_tick = asyncio.get_running_loop().call_at(due, self._tick_alone, due)

    def _tick_alone(self, due: float) -> None:
        try:
            self._tick()
        except Exception as error:  # noqa: BLE001 -- it would only be logged; `_watch` raises it
            self._failure = error
            self._changed.set()
        else:
            self._tick_at(max(due, time.monotonic() - MICROPHONE_PAUSE_SECONDS) + FRAME_MS / 1000)

    async def _watch(self, alive: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Raise when the connection is closed, when either of our halves fails, or when the hub falls silent.

        Media may pause, and some hubs send no RTCP; so silence is judged by how often *this* hub was heard to
        report, and a hub that answers over HTTP that it still has the session is given longer.
        """
        packets, reports = -1, frozenset[object]()
        heard_at = reported_at = asked_at = time.monotonic()
        patience = float("inf")  # until this hub has reported: some never do
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            self._raise_if_over()

            report = await self._connection.getStats()
            now = time.monotonic()
            if (latest := _reports(report)) != reports:
                usual = SILENT_SECONDS if patience == float("inf") else patience
                patience = max(usual, 2 * (now - reported_at))
                reports, reported_at = latest, now
            if (count := _packets(report)) != packets:
                packets, heard_at = count, now

            silent = now - heard_at
            if silent > SILENT_SECONDS and now - asked_at > ASK_SECONDS:
                asked_at = now
                if silent > patience or not await alive():
                    raise HubUnreachableError(
                        f"the hub at {self._hub} has fallen silent",
                        hint="Check that the hub runs and the network is up; trying goes on",
                    )

    def _raise_if_over(self) -> None:
        failure = self._failure or self._track.failure
        if isinstance(failure, StopAsyncIteration):
            raise PinnaError("the microphone's stream has ended", hint="Start the agent again") from None
        if failure is not None:
            raise failure
        if self._connection.connectionState != "connected" or self._track.readyState != "live":
            raise HubUnreachableError(
                f"the hub at {self._hub} has closed the connection",
                hint="Check the hub's log if this goes on; trying goes on",
            )


def _packets(report: RTCStatsReport) -> int:
    return sum(entry.packetsReceived for entry in report.values() if isinstance(entry, RTCTransportStats))


def _reports(report: RTCStatsReport) -> frozenset[object]:
    """Which RTCP reports of the hub are the latest."""
    return frozenset(
        (entry.id, entry.timestamp) for entry in report.values() if entry.type.startswith("remote-")
    )
