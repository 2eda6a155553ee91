"""The gate: the one way by which microphone frames reach a link."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_MS, Frame
from pinna.session.sessions import Change
from pinna.session.states import State

LATE_SECONDS: Final = 0.3
"""How late a frame may come from the microphone and still be of the pre-roll's time."""


class Gate:
    """Shut, it keeps the latest `pre_roll_ms` in memory, unless muted, and lets nothing by. Event loop only.

    Opened, it sends those ahead, marked as `held`. Shutting also takes back what waits in `out`.
    """

    def __init__(
        self, out: Subscription, pre_roll_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.passed = 0
        self.held = 0
        """Frames that did not leave."""
        self._out = out
        self._clock = clock
        self._pre_roll_seconds = pre_roll_ms / 1000
        self._before: deque[Frame] = deque(maxlen=pre_roll_ms // FRAME_MS)
        self._remember = False
        self._open = asyncio.Event()
        self._shut = asyncio.Event()
        self._shut.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    async def opened(self) -> None:
        """Wait until it is open."""
        await self._open.wait()

    async def shut(self) -> None:
        """Wait until it is shut."""
        await self._shut.wait()

    async def opens_anew(self, seconds: float) -> None:
        """Wait until it opens once more, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.shut()
                await self.opened()

    def put(self, frame: Frame) -> None:
        if self._open.is_set():
            self.passed += 1
            self._out.put(frame)
        else:
            self.held += 1
            if self._remember:
                self._before.append(frame)

    def follow(self, change: Change) -> None:
        self._remember = change.after in (State.IDLE, State.LISTENING)
        if change.after is State.SESSION:
            self._shut.clear()
            self._send_ahead()
            self._open.set()
        else:
            self._open.clear()
            self._out.clear()
            self._shut.set()
        self._before.clear()

    def _send_ahead(self) -> None:
        since = self._clock() - self._pre_roll_seconds - LATE_SECONDS
        for frame in self._before:
            if frame.captured_at >= since:  # older: the microphone was away
                self.passed += 1
                self.held -= 1
                self._out.put(dataclasses.replace(frame, held=True))
