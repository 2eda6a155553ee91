"""The button: a short press begins a session, a hold ends it, a double press mutes, and ends a mute."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from pinna.session.presses import Presses, Sign
from pinna.session.sessions import Sessions

log = structlog.get_logger(__name__)

BY: Final = "button"

TROUBLE: Final = {
    Sign.STUCK: (
        "the button is pressed all the time, and does nothing until it is released",
        "Release it. If nobody holds it: is it jammed, or wired to the other side than "
        "`session.button_wiring` says?",
    ),
    Sign.RESTLESS: (
        "the button flutters faster than a finger, and does nothing until it rests",
        "Is its wire loose, or nothing connected there? Check `session.button_pin`, the plug and the button",
    ),
}


class Line(Protocol):
    """What `pinna.session.gpio.ButtonLine` is."""

    fd: int

    def pressed(self) -> bool: ...

    def edges(self) -> list[tuple[float, bool]]: ...

    def release(self) -> None: ...


class Button:
    """`open_line` may raise a PinnaError. `well` and `trouble` tell of the button's own health."""

    def __init__(
        self,
        sessions: Sessions,
        open_line: Callable[[], Line],
        *,
        well: Callable[[], object],
        trouble: Callable[[str, str], object],
    ) -> None:
        self.presses: Counter[Sign] = Counter()
        """So far, by what they meant."""
        self.started = False
        self._sessions = sessions
        self._open_line = open_line
        self._well = well
        self._trouble = trouble
        self._just_muted = False

    async def run(self) -> None:
        """Raises PinError, ConfigError."""
        line = self._open_line()
        try:
            presses = Presses(line.pressed(), time.monotonic())
            self.started = True
            self._well()
            while True:
                if await _readable(line.fd, presses.due):
                    for at, pressed in line.edges():
                        self._take(presses.edge(at, pressed))
                else:
                    self._take(presses.pass_time(time.monotonic()))
        finally:
            line.release()

    def _take(self, signs: list[Sign]) -> None:
        for sign in signs:
            match sign:
                case Sign.WELL:
                    self._well()
                    log.info("button.well")
                    continue
                case Sign.STUCK | Sign.RESTLESS:
                    cause, hint = TROUBLE[sign]
                    self._trouble(cause, hint)
                    log.warning(f"button.{sign}", cause=cause, hint=hint)
                    continue
                case Sign.SHORT:
                    changed = self._sessions.open(BY)
                case Sign.HELD:
                    changed = self._sessions.close(BY)
                case Sign.DOUBLE:
                    changed = self._just_muted = self._sessions.mute(BY)
                case Sign.DOUBLE_OVER:  # a flutter may mute the device, but never end a mute
                    if not self._just_muted:
                        self._sessions.unmute(BY)
                    continue
            self.presses[sign] += 1
            log.debug("button.pressed", press=sign.value, changed=changed)


async def _readable(fd: int, due: float | None) -> bool:
    """Wait for it; False when it is that time of time.monotonic() first.

    Watched for one event only: with nothing there to be read, reading would stop the event loop.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def tell() -> None:
        loop.remove_reader(fd)
        ready.set()

    loop.add_reader(fd, tell)
    try:
        async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
            await ready.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(fd)
    return ready.is_set()
