"""Ways out of the device. A link takes frames from a subscription and gives far speech to a speaker."""

from __future__ import annotations

from typing import Protocol

from pinna.frame import Samples


class Speaker(Protocol):
    """Where a link puts what the hub says. Both members are called on the event loop only."""

    def play(self, samples: Samples) -> bool:
        """Queue one frame, shape (960,), int16. False when the queue is full: the frame is dropped."""

    @property
    def queued_ms(self) -> int:
        """How much is waiting to be played."""


class Link(Protocol):
    """One connection to a hub."""

    async def run(self) -> None:
        """Connect and stream until the connection ends, by an error or by cancellation.

        Raises `HubUnreachableError`, `HubRefusedError`, `HubAnswerError`. In either case everything it opened
        is closed again, and the hub told where the dialect has words for it. May be called again:
        reconnecting is the supervisor's business.
        """
