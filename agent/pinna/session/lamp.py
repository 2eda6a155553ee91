"""A LED that tells the state, and by the number of flashes every two seconds what is the matter."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pinna.errors import PinError
from pinna.session.sessions import Change
from pinna.session.states import State

Rhythm = tuple[tuple[bool, float], ...]
"""Lit or dark, and for how many seconds, again and again."""

STEADY: Final = 3600.0
EVERY_SECONDS: Final = 2.0
FLASH_SECONDS: Final = 0.1
BETWEEN_SECONDS: Final = 0.2


def flashes(number: int) -> Rhythm:
    """So many every two seconds."""
    some = ((True, FLASH_SECONDS), (False, BETWEEN_SECONDS)) * number
    rest = EVERY_SECONDS - number * (FLASH_SECONDS + BETWEEN_SECONDS)
    return (*some[:-1], (False, BETWEEN_SECONDS + rest))


RHYTHMS: Final[Mapping[State, Rhythm]] = {
    State.MUTED: flashes(1),
    State.IDLE: ((False, STEADY),),
    State.LISTENING: ((False, STEADY),),
    State.SESSION: ((True, STEADY),),
}

TROUBLES: Final[Mapping[str, Rhythm]] = {
    "audio": flashes(3),
    "link": flashes(2),
    "wakeword": flashes(4),
    "button": flashes(4),
}
"""Of components that do not do their work, the first of those that do not. A mute is told instead of any."""


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
        self._unwell: set[str] = set()
        self._changed = asyncio.Event()

    def follow(self, change: Change) -> None:
        self._state = change.after
        self._changed.set()

    def hear(self, component: str, *, well: bool) -> None:
        """How a component is, by its name; of those that are not in `TROUBLES`, nothing is shown."""
        unwell = self._unwell - {component} if well else self._unwell | ({component} & TROUBLES.keys())
        if unwell != self._unwell:
            self._unwell = unwell
            self._changed.set()

    @property
    def rhythm(self) -> Rhythm:
        """What it shows, or is to show."""
        if self._state is not State.MUTED:
            for component, rhythm in TROUBLES.items():
                if component in self._unwell:
                    return rhythm
        return RHYTHMS[self._state]

    async def run(self) -> None:
        """Raises PinError, ConfigError."""
        line = self._open_line()
        try:
            self.started = True
            self._well()
            while True:
                self._changed.clear()
                for on, seconds in itertools.cycle(self.rhythm):
                    line.shine(on)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await self._changed.wait()
                        break
        finally:
            with contextlib.suppress(PinError):
                line.shine(False)
            line.release()
