"""The hub's one clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from pinna.frame import FRAME_MS

MAX_CATCH_UP_FRAMES: Final = 5


async def every_frame(
    tick: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Call `tick` every 20 ms, for ever, without drift, with the time (of `clock`, seconds) it was due at.

    A tick that comes late is followed by the ones it held up, at most 5; a longer stall is left out, because
    a burst would only fill the peers' jitter buffers.
    """
    period = FRAME_MS / 1000
    due = clock()
    while True:
        due += period
        late = clock() - due
        if late > MAX_CATCH_UP_FRAMES * period:
            due += late
        await sleep(max(0.0, -late))
        tick(due)
