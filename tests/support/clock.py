"""Time that passes only when a test says so."""

from __future__ import annotations

import asyncio


class ManualClock:
    """Called, it tells the time in seconds. `sleep` lets it pass at once and remembers how much."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
