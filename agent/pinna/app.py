"""The composition root of `pinna run`.

    PortAudio callback -> ring -> DSP thread (echo canceller) -> bridge -> fanout -> gate -> link -> hub
            ^                                                                |                |
            |                                                                +-> wake word    |
            +------------------------------- playback queue <---------------------------------+

Parts start in the order of the flow and stop in reverse. Each runs under its own supervision.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import structlog

from pinna import __version__, links, telemetry
from pinna.audio import aec
from pinna.audio.engine import AudioEngine
from pinna.audio.playback import PlaybackQueue
from pinna.config import HTTP_TOKEN, HUB_TOKEN, Config, read_secret
from pinna.errors import HubUnreachableError, PinnaError
from pinna.exposition import LogLine, health_keys, openmetrics
from pinna.flow.fanout import Fanout, Subscription
from pinna.health import Health, SystemdNotifier, Watchdog
from pinna.http import HealthServer, SessionControl
from pinna.metrics import Registry
from pinna.session import gpio, kept
from pinna.session.button import Button
from pinna.session.gate import Gate
from pinna.session.lamp import Lamp
from pinna.session.overheard import Overheard
from pinna.session.sessions import Sessions
from pinna.session.states import BUTTON
from pinna.session.tones import Tones
from pinna.supervisor import Backoff, supervise

if TYPE_CHECKING:
    from pinna.session.wakeword import WakeWord

log = structlog.get_logger(__name__)

LINK_QUEUE_MS: Final = 200
CALL_MS: Final = 3000
"""How long a call to a voice service may take before the first words are lost."""

_STATE_HINT: Final = "Give the user Pinna runs as a folder of its own: `session.state_dir`"
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
        where = kept.folder(config)
        muted, self._trouble = kept.look(where)
        tones = Tones(self.playback) if config.session.tones == "on" else None
        voice = Overheard(tones or self.playback)
        self.sessions = Sessions(config.session, muted=muted, hub_spoke_at=lambda: voice.spoke_at)
        self.kept = kept.Keeper(where, gated=self.sessions.gated, trouble=self._not_kept)
        to_hub = Subscription("link", _link_queue_ms(config))
        self.gate = Gate(to_hub, config.session.pre_roll_ms)
        self.fanout.listen(self.gate.put)
        self.link = links.create(
            config,
            to_hub,
            voice if self.sessions.gated or tones else self.playback,
            self.gate,
            lambda: read_secret(config.hub.token_file, os.environ.get(HUB_TOKEN)),
            links.News(
                connected=self.health.component("link").ok,
                ready=self.health.component("link").ok,
                hung_up=lambda: self.sessions.close("hub"),
            ),
        )
        http_token = read_secret(config.http.token_file, os.environ.get(HTTP_TOKEN))
        self.http = HealthServer(
            config.http,
            health=self._health_body,
            metrics=openmetrics(self.metrics),
            token=http_token,
            session_token=None if http_token else kept.own_token(where),
            session=SessionControl(
                lambda: telemetry.session_body(self.sessions, self.gate),
                {
                    "open": lambda: self.sessions.open("request"),
                    "close": lambda: self.sessions.close("request"),
                    "mute": lambda: self.sessions.mute("request"),
                    "unmute": lambda: self.sessions.unmute("request"),
                },
            ),
        )
        if tones:
            self.sessions.follow(tones.follow)
        self.wake_word: WakeWord | None = None
        if config.session.mode.endswith("wakeword"):
            from pinna.session.wakeword import QUEUE_MS, WakeWord  # noqa: PLC0415  (this mode's alone)

            self.wake_word = WakeWord(
                config.session,
                self.fanout.subscribe("wakeword", QUEUE_MS),
                self.sessions,
                lambda: voice.spoke_at,
                listening=self.health.component("wakeword").ok,
            )
            self.metrics.add(telemetry.of_wake_word(self.wake_word))
        self.button = self._make_button() if config.session.mode in BUTTON else None
        self.lamp = self._make_lamp() if config.session.led_pin >= 0 else None
        self.watchdog = Watchdog(lambda: self.audio.capture.frames, self._notifier)

        self.metrics.add(telemetry.of_process())
        self.metrics.add(telemetry.of_audio(self.audio, self.playback))
        self.metrics.add(telemetry.of_echo(self.audio))
        self.metrics.add(telemetry.of_session(self.sessions, self.gate))
        self.metrics.add(telemetry.of_link(self.link, to_hub))

    def _make_button(self) -> Button:
        asked, component = self._config.session, self.health.component("button")
        button = Button(
            self.sessions,
            lambda: gpio.open_button(asked.gpio_chip, asked.button_pin, asked.button_wiring),
            well=component.ok,
            trouble=component.degraded,
        )
        self.metrics.add(telemetry.of_button(button))
        return button

    def _make_lamp(self) -> Lamp:
        asked = self._config.session
        lamp = Lamp(
            lambda: gpio.open_lamp(asked.gpio_chip, asked.led_pin), well=self.health.component("led").ok
        )
        self.sessions.follow(lamp.follow)
        self.health.on_change.append(
            lambda it: lamp.hear(it.name, well=it.state not in ("degraded", "failed"))
        )
        return lamp

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
            self._begin_session(parts)
            if (wake_word := self.wake_word) is not None:
                self._begin(parts, "wakeword", wake_word.run, Backoff(), lambda: wake_word.started)
            if (button := self.button) is not None:
                self._begin(parts, "button", button.run, Backoff(), lambda: button.started)
            if (lamp := self.lamp) is not None:
                self._begin(parts, "led", lamp.run, Backoff(), lambda: lamp.started)
            self._begin(
                parts,
                "link",
                self.link.run,
                link_backoff,
                lambda: self.link.stats.connections > 0,
                self.gate.opens_anew,  # whoever asks for a session anew need not wait
            )
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
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
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
        _task(parts, supervise(name, first_time_right, backoff=backoff, health=component, sleep=sleep))

    def _begin_session(self, parts: contextlib.AsyncExitStack) -> None:
        component = self.health.component("session")
        component.ok()
        if self._trouble:
            component.degraded(self._trouble, _STATE_HINT)
        self._loop = asyncio.get_running_loop()
        self.sessions.follow(self.gate.follow)
        self.sessions.follow(self.kept.follow)
        parts.callback(self.kept.close)
        link = self.health.component("link")
        link.on_change.append(lambda it: self.kept.error(it.reason) if it.state == "failed" else None)
        _task(parts, self.sessions.run())

    def _not_kept(self, trouble: str) -> None:
        """In a thread."""
        component = self.health.component("session")
        self._loop.call_soon_threadsafe(component.degraded, trouble, _STATE_HINT)
        log.warning("session.not_kept", reason=trouble, hint=_STATE_HINT)

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
            "resting": self._is_resting(),
            "session": telemetry.session_body(self.sessions, self.gate),
            "components": self.health.as_dict(),
            "echo": telemetry.echo_body(self._config.echo.engine, self.audio),
            "audio": telemetry.audio_body(self.audio, self.playback),
            "link": telemetry.link_body(self.link),
        }

    def _is_resting(self) -> bool:
        """Not connected, as it should be: a voice service is called for each session."""
        calls = self._config.hub.dialect == "websocket"
        return calls and not self.gate.is_open and self.health.component("link").state == "ok"


def _link_queue_ms(config: Config) -> int:
    """What may wait for the link: the usual, a pre-roll, and what is said while a service is called."""
    if config.session.mode == "always":
        return LINK_QUEUE_MS
    calling_ms = CALL_MS if config.hub.dialect == "websocket" else 0
    return LINK_QUEUE_MS + config.session.pre_roll_ms + calling_ms


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
