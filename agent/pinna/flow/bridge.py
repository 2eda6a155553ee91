"""The one crossing from a thread into the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Bridge(Generic[T]):
    """Items posted by a thread reach `deliver` on the event loop, in order, and never pile up.

    At most `capacity` items wait; when the loop is late the oldest goes and `dropped` counts it. One
    wake-up is under way at a time, however many items wait, so a stalled loop is not buried in callbacks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[T], None], capacity: int) -> None:
        self._loop = loop
        self._deliver = deliver
        self._waiting: deque[T] = deque(maxlen=capacity)
        self._woken = False
        self.dropped = 0

    def post(self, item: T) -> None:
        """From the thread. Never blocks; after the loop has closed, items fall on the floor."""
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(item)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: we are shutting down
                self._woken = False

    def _drain(self) -> None:
        self._woken = False  # before reading: an item posted from here on wakes us again
        while self._waiting:
            try:
                item = self._waiting.popleft()
            except IndexError:  # the thread's append has just pushed the last one out
                return
            self._deliver(item)
