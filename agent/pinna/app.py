"""The composition root of `pinna run`.

    PortAudio callback -> ring -> DSP thread (echo canceller) -> bridge -> fanout -> link -> hub
            ^                                                                         |
            +------------------------------- playback queue <-------------------------+

Parts start in the order of the flow and stop in reverse. Each runs under its own supervision.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from pinna import __version__, telemetry
from pinna.audio import aec
from pinna.audio.engine import AudioEngine
from pinna.audio.playback import PlaybackQueue
from pinna.config import HTTP_TOKEN, HUB_TOKEN, Config, read_secret
from pinna.errors import HubUnreachableError, PinnaError
from pinna.exposition import LogLine, health_keys, openmetrics
from pinna.flow.fanout import Fanout
from pinna.health import Health, SystemdNotifier, Watchdog
from pinna.http import HealthServer
from pinna.links.webrtc import WebRTCLink
from pinna.metrics import Registry
from pinna.supervisor import Backoff, supervise

log = structlog.get_logger(__name__)

LINK_QUEUE_MS: Final = 200
METRICS_SECONDS: Final = 10.0
AUDIO_BACKOFF: Final = Backoff(first=0.25, cap=1.0, healthy_seconds=10.0)
"""A replugged card is to be heard again within 3 s, and looking for one costs next to nothing."""

STOP_SECONDS: Final = 1.5


class Agent:
    """The parts of one agent, connected."""

    def __init__(self, config: Config, *, service: bool = False) -> None:
        """`service`: keep trying what only a human can mend, as a daemon should, instead of ending."""
        self._config = config
        self._service = service
        self.health = Health()
        self.metrics = Registry()
        self._notifier = SystemdNotifier()
        self._fatal: asyncio.Future[None] | None = None

        self.fanout = Fanout()
        self.playback = PlaybackQueue()
        self.audio = AudioEngine(
            config.audio,
            lambda: aec.create(config.echo),
            self.playback,
            self.fanout.publish,
            streaming=self.health.component("audio").ok,
        )
        to_hub = self.fanout.subscribe("link", LINK_QUEUE_MS)
        self.link = WebRTCLink(
            config.hub,
            config.device_id,
            to_hub,
            self.playback,
            lambda: read_secret(config.hub.token_file, os.environ.get(HUB_TOKEN)),
            connected=self.health.component("link").ok,
        )
        self.http = HealthServer(
            config.http,
            health=self._health_body,
            metrics=openmetrics(self.metrics),
            token=read_secret(config.http.token_file, os.environ.get(HTTP_TOKEN)),
        )
        self.watchdog = Watchdog(lambda: self.audio.capture.frames, self._notifier)

        self.metrics.add(telemetry.of_process())
        self.metrics.add(telemetry.of_audio(self.audio, self.playback))
        self.metrics.add(telemetry.of_echo(self.audio))
        self.metrics.add(telemetry.of_link(self.link, to_hub))

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises the PinnaError that ended it otherwise."""
        stop = self._fatal = asyncio.get_running_loop().create_future()
        self._stop_on_signals(stop)
        self.health.on_change.append(lambda _: self._notifier.status(self.health.summary()))
        hub = self._config.hub
        link_backoff = Backoff(first=hub.reconnect_seconds, cap=hub.reconnect_max_seconds)
        async with contextlib.AsyncExitStack() as parts:
            await self.http.start()
            parts.push_async_callback(self.http.stop)
            parts.callback(self.audio.close)
            self._begin(parts, "audio", self.audio.run, AUDIO_BACKOFF, lambda: self.audio.streams > 0)
            self._begin(parts, "link", self.link.run, link_backoff, lambda: self.link.stats.connections > 0)
            _task(parts, self._report())
            _task(parts, self.watchdog.run())
            self._notifier.ready()
            log.info("agent.started", version=__version__, device_id=self._config.device_id, hub=hub.url)
            try:
                await stop
            finally:
                self._notifier.stopping()
        log.info("agent.stopped", threads_left=len(self._own_threads()))

    def _begin(
        self,
        parts: contextlib.AsyncExitStack,
        name: str,
        run: Callable[[], Awaitable[None]],
        backoff: Backoff,
        has_worked: Callable[[], bool],
    ) -> None:
        """Supervise a part. Until it has worked once, what a human must mend ends the program."""

        async def first_time_right() -> None:
            try:
                await run()
            except PinnaError as error:
                if not self._service and not has_worked() and _needs_a_human(error):
                    self._end_with(error)
                    await asyncio.Event().wait()  # until cancelled: the error is told once, at the end
                raise

        component = self.health.component(name)
        _task(parts, supervise(name, first_time_right, backoff=backoff, health=component))

    def _end_with(self, error: PinnaError) -> None:
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_exception(error)

    def _stop_on_signals(self, stop: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not stop.done():
                stop.set_result(None)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)

    @staticmethod
    def _own_threads() -> list[threading.Thread]:
        """The event loop's helpers end with the loop."""
        return [t for t in threading.enumerate() if t.name.startswith("pinna-")]

    async def _report(self) -> None:
        line = LogLine(asyncio.get_running_loop().time)
        while True:
            await asyncio.sleep(METRICS_SECONDS)
            text, fields = line(self.metrics.collect())
            log.info(text, **fields)

    def _health_body(self) -> dict[str, Any]:
        return {
            **health_keys(self.metrics.collect()),
            "status": self.health.state,
            "version": __version__,
            "device_id": self._config.device_id,
            "components": self.health.as_dict(),
            "echo": telemetry.echo_body(self._config.echo.engine, self.audio),
            "audio": telemetry.audio_body(self.audio, self.playback),
            "link": telemetry.link_body(self.link),
        }


def _needs_a_human(error: PinnaError) -> bool:
    """Waiting does not help. A hub that is not up yet is nobody's mistake."""
    return error.permanent or not isinstance(error, HubUnreachableError)


def _task(parts: contextlib.AsyncExitStack, body: Coroutine[Any, Any, None]) -> None:
    """Run it as a task that is cancelled, and waited for, when its turn to stop comes."""
    task = asyncio.create_task(body)

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task], timeout=STOP_SECONDS)

    parts.push_async_callback(end)
