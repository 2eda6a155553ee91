"""What fingers mean: a pure state machine from debounced edges, and the passing of time, to signs.

No clock and no pin: every time is an argument, in seconds of one clock. The signs depend on the times of the
edges alone, and not on when, or how often, `pass_time` is called between them.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Final

HOLD_SECONDS: Final = 2.0
DOUBLE_SECONDS: Final = 0.35
"""A second press within this of the first one's release belongs to it: so long a short one is in doubt."""

STUCK_SECONDS: Final = 60.0
"""Nobody holds a button for so long."""

RESTLESS_SECONDS: Final = 2.0
RESTLESS_EDGES: Final = 24
"""More within RESTLESS_SECONDS are six presses a second: no finger's, but a loose wire's or an open pin's."""


class Sign(StrEnum):
    SHORT = "short"
    DOUBLE = "double"  # told at the second press, and
    DOUBLE_OVER = "double over"  # when no third one has followed: no loose wire has made it
    HELD = "held"  # told after HOLD_SECONDS, while it is still held
    STUCK = "stuck"  # held for minutes, or since the start
    RESTLESS = "restless"  # no sign is made of what comes until it rests
    WELL = "well"  # neither stuck nor restless any more


class Presses:
    """`pressed`, `at`: how the button is found. Times never go back."""

    def __init__(self, pressed: bool, at: float) -> None:
        self._pressed = pressed
        self._since = at  # of the latest edge
        self._count = 0  # presses of the gesture that is going on
        self._told = pressed  # this gesture has had its sign; found held, it means nothing
        self._found = pressed
        self._trouble: Sign | None = None
        self._edges: deque[float] = deque(maxlen=RESTLESS_EDGES + 1)

    @property
    def due(self) -> float | None:
        """When time alone makes the next sign, if nothing else happens."""
        if self._trouble is Sign.RESTLESS:
            return self._since + RESTLESS_SECONDS
        if self._trouble is Sign.STUCK:
            return None
        if not self._pressed:
            return self._since + DOUBLE_SECONDS if self._count else None
        if self._found or not self._told:
            return self._since + HOLD_SECONDS
        return self._since + STUCK_SECONDS

    def edge(self, at: float, pressed: bool) -> list[Sign]:
        """The signs up to and including this edge. One that repeats the level is none: the other was lost."""
        signs = self.pass_time(at)
        if pressed == self._pressed:
            return signs
        self._pressed, self._since, self._found = pressed, at, False
        self._edges.append(at)
        if self._trouble is Sign.RESTLESS:
            return signs
        if len(self._edges) > RESTLESS_EDGES and at - self._edges[0] <= RESTLESS_SECONDS:
            self._trouble, self._count, self._told = Sign.RESTLESS, 0, True
            return [*signs, Sign.RESTLESS]
        if pressed:
            self._count += 1
            if self._count == 2 and not self._told:
                self._told = True
                signs.append(Sign.DOUBLE)
        elif self._trouble is Sign.STUCK:
            self._trouble, self._count = None, 0
            signs.append(Sign.WELL)
        elif self._told and self._count <= 1:  # it was held: nothing follows
            self._count = 0
        self._told = self._told and bool(self._count)
        return signs

    def pass_time(self, now: float) -> list[Sign]:
        """The signs that time alone has made until `now`, which are of the times they were due."""
        signs = []
        while (due := self.due) is not None and due <= now:
            signs += self._come_due()
        return signs

    def _come_due(self) -> list[Sign]:
        if self._trouble is Sign.RESTLESS:
            self._trouble, self._told, self._found = None, self._pressed, self._pressed
            self._edges.clear()
            return [Sign.WELL]
        if not self._pressed:
            count, told = self._count, self._told
            self._count, self._told = 0, False
            return [Sign.SHORT] if not told else [Sign.DOUBLE_OVER] if count == 2 else []
        if self._found or self._told:
            self._trouble = Sign.STUCK
            return [Sign.STUCK]
        self._told = True
        return [Sign.HELD]
