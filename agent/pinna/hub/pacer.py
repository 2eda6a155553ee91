"""The hub's one clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pinna.frame import FRAME_MS

MAX_CATCH_UP_FRAMES: Final = 5


async def every_frame(tick: Callable[[float], None]) -> None:
    """Call `tick` every 20 ms, for ever, without drift, with the time it was due (CLOCK_MONOTONIC, seconds).

    A tick that comes late is followed by the ones it held up, at most 5; a longer stall is left out, because
    a burst would only fill the peers' jitter buffers.
    """
    loop = asyncio.get_running_loop()
    period = FRAME_MS / 1000
    due = loop.time()
    while True:
        due += period
        late = loop.time() - due
        if late > MAX_CATCH_UP_FRAMES * period:
            due += late
        await asyncio.sleep(max(0.0, -late))
        tick(due)
