"""One stream of frames to many subscribers, none of which can hold up another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from pinna.frame import FRAME_MS, Frame


class Subscription:
    """A bounded view of the stream: keeps the newest `max_ms`, drops the oldest, counts what it dropped.

    For one consumer on the event loop. Iteration ends after `close`, once what was queued has been read.
    """

    def __init__(self, name: str, max_ms: int) -> None:
        self.name = name
        self.dropped = 0
        self._frames: deque[Frame] = deque(maxlen=max(1, max_ms // FRAME_MS))
        self._ready = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> None:
        if self._closed:
            return
        if len(self._frames) == self._frames.maxlen:
            self.dropped += 1
        self._frames.append(frame)
        self._ready.set()

    def clear(self) -> None:
        """Forget what is queued: stale frames must not start a new session."""
        self._frames.clear()
        self._ready.clear()

    def close(self) -> None:
        self._closed = True
        self._ready.set()

    async def get(self) -> Frame:
        """The oldest frame kept, waiting for one if need be. Raises StopAsyncIteration after `close`."""
        while not self._frames:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._frames.popleft()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        return await self.get()


class Fanout:
    """`publish` hands a frame to every open subscription and never waits. Event loop only."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._listeners: list[Callable[[Frame], None]] = []

    def listen(self, listener: Callable[[Frame], None]) -> None:
        """Call it with each frame, at once; it must not take long."""
        self._listeners.append(listener)

    def subscribe(self, name: str, max_ms: int) -> Subscription:
        subscription = Subscription(name, max_ms)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        subscription.close()
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def publish(self, frame: Frame) -> None:
        for subscription in self._subscriptions:
            subscription.put(frame)
        for listener in self._listeners:
            listener(frame)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        return tuple(self._subscriptions)
