"""Waiting for conditions, never for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 15.0, *, what: str = "") -> T:
    """The first true value of `condition`; AssertionError, with the last false one, when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'condition'} not met in {seconds:g} s; last: {value!r}")
        time.sleep(0.02)


async def until(condition: Callable[[], T], seconds: float = 15.0, *, what: str = "") -> T:
    """`eventually`, with the event loop going on; `condition` may block and runs in a thread.

    Whether its value is true is asked there too: a list that was empty may be filled by the event loop.
    """

    def look() -> tuple[bool, T]:
        value = condition()
        return bool(value), value

    deadline = time.monotonic() + seconds
    while True:
        met, value = await asyncio.to_thread(look)
        if met:
            return value
        assert time.monotonic() < deadline, f"{what or 'condition'} not met in {seconds:g} s; last: {value!r}"
        await asyncio.sleep(0.02)
