"""A LED that tells the state: lit in a session, a flash every two seconds while muted, dark at rest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pinna.errors import PinError
from pinna.session.sessions import Change
from pinna.session.states import State

STEADY: Final = 3600.0

RHYTHMS: Final[Mapping[State, tuple[tuple[bool, float], ...]]] = {
    State.MUTED: ((True, 0.1), (False, 1.9)),
    State.IDLE: ((False, STEADY),),
    State.LISTENING: ((False, STEADY),),
    State.SESSION: ((True, STEADY),),
}
"""Lit or dark, and for how many seconds, again and again."""


class Line(Protocol):
    """What `pinna.session.gpio.LampLine` is."""

    def shine(self, on: bool) -> None: ...

    def release(self) -> None: ...


class Lamp:
    """Follows the sessions. `open_line` may raise a PinnaError; `well` is called once it has worked."""

    def __init__(self, open_line: Callable[[], Line], *, well: Callable[[], object]) -> None:
        self.started = False
        self._open_line = open_line
        self._well = well
        self._state = State.IDLE
        self._changed = asyncio.Event()

    def follow(self, change: Change) -> None:
        self._state = change.after
        self._changed.set()

    async def run(self) -> None:
        """Raises PinError, ConfigError."""
        line = self._open_line()
        try:
            self.started = True
            self._well()
            while True:
                self._changed.clear()
                for on, seconds in itertools.cycle(RHYTHMS[self._state]):
                    line.shine(on)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await self._changed.wait()
                        break
        finally:
            with contextlib.suppress(PinError):
                line.shine(False)
            line.release()
