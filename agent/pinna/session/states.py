"""The state machine of sessions: pure, a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

Mode = Literal["always", "request", "button", "wakeword", "button+wakeword"]


class State(StrEnum):
    MUTED = "muted"  # nothing leaves, nothing listens, whatever is asked for
    IDLE = "idle"  # nothing leaves; a session can be asked for
    LISTENING = "listening"  # nothing leaves; the device itself listens for a wake word
    SESSION = "session"  # the microphone goes to the hub


class Event(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    MUTE = "mute"
    UNMUTE = "unmute"


REST: Final[Mapping[Mode, State]] = {
    "always": State.SESSION,
    "request": State.IDLE,
    "button": State.IDLE,
    "wakeword": State.LISTENING,
    "button+wakeword": State.LISTENING,
}
"""Where a mode returns to when nothing else holds."""

BUTTON: Final = frozenset({"button", "button+wakeword"})
"""The modes that have one."""

_TO_REST: Final = None
TRANSITIONS: Final[Mapping[tuple[State, Event], State | None]] = {
    (State.IDLE, Event.OPEN): State.SESSION,
    (State.LISTENING, Event.OPEN): State.SESSION,
    (State.SESSION, Event.CLOSE): _TO_REST,
    (State.IDLE, Event.MUTE): State.MUTED,
    (State.LISTENING, Event.MUTE): State.MUTED,
    (State.SESSION, Event.MUTE): State.MUTED,
    (State.MUTED, Event.UNMUTE): _TO_REST,
}
"""What is not here changes nothing: a muted device cannot be opened, only unmuted."""


def after(state: State, event: Event, mode: Mode) -> State:
    """The state that `event` leads to."""
    found = TRANSITIONS.get((state, event), state)
    return REST[mode] if found is _TO_REST else found
