"""The device's side of a link under test: a microphone that ticks, a speaker that listens."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from types import TracebackType

from tests.support.fakehub import tone

from pinna.config import HubConfig
from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_MS, Frame, Samples
from pinna.links.webrtc import WebRTCLink


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for a condition, never for time; the limit only ends a test that has failed."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the conditions are others' states, which set no event
            await asyncio.sleep(0.01)


class ListeningSpeaker:
    def __init__(self) -> None:
        self.played: list[Samples] = []
        self.queued_ms = 0

    def play(self, samples: Samples) -> bool:
        self.played.append(samples)
        return True


class LinkDevice:
    """`async with LinkDevice(hub.config) as device:` -- the microphone ticks; `start` runs the link."""

    def __init__(self, config: HubConfig, token: str | None = None) -> None:
        self.microphone = Subscription("link", 500)
        self.speaker = ListeningSpeaker()
        self.link = WebRTCLink(config, "ear-1", self.microphone, self.speaker, lambda: token)
        self.muted = False
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LinkDevice:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticking.cancel()
        await self.stop()

    async def _tick(self) -> None:
        sound = tone(100)
        due = time.monotonic()
        for number in itertools.count():
            due += FRAME_MS / 1000
            await asyncio.sleep(due - time.monotonic())
            if not self.muted:
                self.microphone.put(Frame(sound[number % 100], number, due))

    def start(self) -> asyncio.Task[None]:
        self.running = asyncio.create_task(self.link.run())
        return self.running

    async def connected(self) -> None:
        assert self.running
        await until(lambda: self.link.stats.connected or (self.running and self.running.done()))
        if self.running.done():
            await self.running

    async def stop(self) -> None:
        if self.running:
            self.running.cancel()
            await asyncio.wait([self.running])
            if not self.running.cancelled():
                self.running.exception()  # seen
