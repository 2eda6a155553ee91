"""The hub itself: who is connected, the clock that moves their sound, start and stop."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from aiohttp import web

from pinna.errors import ConfigError, PortInUseError
from pinna.frame import Samples
from pinna.hub.modes import Echo, Listen, MakeMode, Record, Say
from pinna.hub.options import HubOptions
from pinna.hub.pacer import every_frame
from pinna.hub.routes import Full, application
from pinna.hub.session import Counters, Listener, Session
from pinna.hub.wav import read_frames

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_LISTENERS: Final = 16
LISTENER_SILENCE_SECONDS: Final = math.inf
"""Browsers send nothing but RTCP reports, and those only while they hear something: ICE notices their end."""

_WATCH_TICKS: Final = 50


class Hub:
    """`start` opens the address, `stop` tells every peer good-bye and closes it; also `async with`."""

    def __init__(self, options: HubOptions) -> None:
        self.options = options
        self.counters = Counters()
        self._sessions: dict[str, Session] = {}
        self._listeners: dict[Listener, str] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, "hub-recording")
        self._started_at = time.monotonic()
        self._ticks = 0
        self._make_mode: MakeMode | None = None
        self._runner: web.AppRunner | None = None
        self._clock: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:8080, with the port really had; by our name when that is every address."""
        assert self._runner is not None, "not started"
        host, port = self._runner.addresses[0][:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Raises PortInUseError, and ConfigError if what to say or where to record cannot be had."""
        self._make_mode = await asyncio.to_thread(_modes, self.options, self._writer)
        runner = web.AppRunner(application(self.options, self), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        host, port = self.options.host, self.options.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise PortInUseError(
                f"The hub cannot listen on {host}:{port} ({error.strerror or error})",
                hint="End the program that has the port, or give the hub another one.",
                permanent=True,
            ) from error
        self._runner = runner
        self._started_at = time.monotonic()
        self._clock = asyncio.create_task(every_frame(self._tick))
        log.info("hub.started", address=self.address, mode=self.options.mode)

    async def stop(self) -> None:
        """May be called twice, and after a `start` that failed."""
        self._stopping.set()
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.wait([self._clock])
            self._clock = None
        owners = self._owners()
        self._sessions.clear()
        self._listeners.clear()
        await asyncio.gather(*(owner.close() for owner in owners))
        if self._background:
            await asyncio.wait(self._background)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            log.info("hub.stopped")
        await asyncio.to_thread(self._writer.shutdown)

    async def __aenter__(self) -> Hub:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # What the routes ask for (routes.Switchboard)

    async def connect(self, device: str, offer: str) -> tuple[str, str]:
        assert self._make_mode is not None
        while (earlier := self._sessions.get(device)) is not None:
            await self._end(earlier, "replaced")
        if self._stopping.is_set() or len(self._sessions) >= self.options.max_devices:
            raise Full("the hub has no room for another device")
        session = Session(
            device, self._make_mode(device), self.counters, self.options.silence_seconds, self._session_gone
        )
        self._sessions[device] = session
        try:
            answer = await session.peer.answer(offer)
        except BaseException as error:
            await self._end(session, str(error) or type(error).__name__)
            raise
        log.info("hub.device_connected", device=device)
        return answer, session.key

    def has(self, device: str, key: str) -> bool:
        session = self._sessions.get(device)
        return session is not None and session.key == key

    async def disconnect(self, device: str) -> None:
        await self._end(self._sessions[device], "said good-bye")

    async def listen(self, device: str, offer: str) -> str:
        if device not in self._sessions:
            raise KeyError(device)
        if self._stopping.is_set() or len(self._listeners) >= MAX_LISTENERS:
            raise Full("the hub has no room for another listener")
        listener = Listener(LISTENER_SILENCE_SECONDS, self._listener_gone)
        self._listeners[listener] = device
        try:
            return await listener.peer.answer(offer)
        except BaseException:
            self._listeners.pop(listener, None)
            await listener.close()
            raise

    def health(self, *, names: bool) -> dict[str, Any]:
        health: dict[str, Any] = {
            "status": "ok",
            "uptime_secs": int(time.monotonic() - self._started_at),
            "active_devices": len(self._sessions),
            "grpc_connected": False,
            "frames_forwarded": self.counters.frames_forwarded,
            "vad_onsets": self.counters.vad_onsets,
            "vad_ends": self.counters.vad_ends,
            "tts_frames_routed": self.counters.tts_frames_routed,
            "tts_frames_dropped": self.counters.tts_frames_dropped,
            "grpc_reconnects": 0,
            "mode": self.options.mode,
        }
        if names:
            health["devices"] = {device: session.figures() for device, session in self._sessions.items()}
        return health

    async def closing(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    # Inside

    def _tick(self, now: float) -> None:
        self._ticks += 1
        heard: dict[str, Samples | None] = {}
        for device, session in list(self._sessions.items()):
            try:
                heard[device] = session.tick(self._ticks, now)
            except Exception:  # whatever one device's stream provokes, the others go on
                log.exception("hub.device_failed", device=device)
                self._session_gone(session, "failed")
        for listener, device in self._listeners.items():
            samples = heard.get(device)
            if samples is not None:
                listener.hear(samples, self._ticks, now)
        if self._ticks % _WATCH_TICKS == 0:
            for owner in self._owners():
                owner.peer.watch()

    def _owners(self) -> list[Session | Listener]:
        return [*self._sessions.values(), *self._listeners]

    def _session_gone(self, session: Session, why: str) -> None:
        self._spawn(self._end(session, why))

    def _listener_gone(self, listener: Listener, _why: str) -> None:
        self._listeners.pop(listener, None)
        self._spawn(listener.close())

    async def _end(self, session: Session, why: str) -> None:
        if self._sessions.get(session.device) is session:
            del self._sessions[session.device]
            log.info("hub.device_gone", device=session.device, why=why)
        await session.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _modes(options: HubOptions, writer: ThreadPoolExecutor) -> MakeMode:
    if options.mode == "echo":
        return lambda _device: Echo(options.echo_delay_ms)
    if options.mode == "say":
        assert options.say_file is not None
        clip = read_frames(options.say_file)
        return lambda _device: Say(clip, options.say_on, options.say_repeat)
    if options.mode == "record":
        directory = options.record_dir
        assert directory is not None
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"Nothing can be recorded in {directory} ({error.strerror})",
                hint="Give a directory that can be written.",
                permanent=True,
            ) from error
        return lambda device: Record(device, directory, writer)
    return lambda _device: Listen()
