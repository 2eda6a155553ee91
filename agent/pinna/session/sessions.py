"""The one holder of the state: takes what buttons, words, hubs and people ask for, tells who follows.

Followers are called on the event loop, in their order, before the asker goes on: when `mute` returns, the
gate is shut.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pinna.config import SessionConfig
from pinna.session.states import REST, Event, State, after

log = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Change:
    """From one state to another (or the first: `before` is `after`), and by whom: a word for people."""

    before: State
    after: State
    by: str


class Sessions:
    """Event loop only. `hub_spoke_at` tells when the hub was last heard to speak, in seconds of `clock`."""

    def __init__(
        self,
        config: SessionConfig,
        *,
        muted: bool,
        hub_spoke_at: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State.MUTED if muted else REST[config.mode]
        self.by = "start"
        self.opened: Counter[str] = Counter()
        """Sessions so far, by who opened them."""
        self._config = config
        self._hub_spoke_at = hub_spoke_at
        self._clock = clock
        self._since = clock()
        self._followers: list[Callable[[Change], None]] = []

    @property
    def gated(self) -> bool:
        """Whether sessions begin and end at all."""
        return self._config.mode != "always"

    def follow(self, follower: Callable[[Change], None]) -> None:
        """Call it at once with the state as it is, and at each change."""
        self._followers.append(follower)
        follower(Change(self.state, self.state, self.by))

    def open(self, by: str) -> bool:
        """Each of these returns whether it changed anything."""
        return self._take(Event.OPEN, by)

    def close(self, by: str) -> bool:
        return self._take(Event.CLOSE, by)

    def mute(self, by: str) -> bool:
        return self._take(Event.MUTE, by)

    def unmute(self, by: str) -> bool:
        return self._take(Event.UNMUTE, by)

    async def run(self) -> None:
        """End sessions that nobody ends."""
        while self.gated:
            self.check()
            await asyncio.sleep(CHECK_SECONDS)

    def check(self) -> None:
        if not self.gated or self.state is not State.SESSION:
            return
        now = self._clock()
        if now - self._since > self._config.max_seconds:
            self.close("time limit")
        elif now - max(self._since, self._hub_spoke_at()) > self._config.quiet_seconds:
            self.close("quiet hub")

    def as_dict(self) -> dict[str, Any]:
        return {
            "mode": self._config.mode,
            "state": self.state.value,
            "by": self.by,
            "for_seconds": round(self._clock() - self._since, 1),
        }

    def _take(self, event: Event, by: str) -> bool:
        before, now = self.state, after(self.state, event, self._config.mode)
        if now is before:
            log.debug("session.ignored", asked=event.value, state=before.value, by=by)
            return False
        seconds = round(self._clock() - self._since, 1)
        self.state, self.by, self._since = now, by, self._clock()
        if now is State.SESSION and self.gated:
            self.opened[by] += 1
        for follower in self._followers:
            follower(Change(before, now, by))
        log.info(f"session.{_DONE[event]}", state=now.value, was=before.value, after_seconds=seconds, by=by)
        return True


_DONE: Final = {
    Event.OPEN: "opened",
    Event.CLOSE: "closed",
    Event.MUTE: "muted",
    Event.UNMUTE: "unmuted",
}
