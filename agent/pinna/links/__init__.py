"""Ways out of the device. A link takes frames from a subscription and gives far speech to a speaker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pinna.config import Config
from pinna.flow.fanout import Subscription
from pinna.frame import Samples


class Speaker(Protocol):
    """Where a link puts what the hub says. Both members are called on the event loop only."""

    def play(self, samples: Samples) -> bool:
        """Queue one frame, shape (960,), int16. False when the queue is full: the frame is dropped."""

    @property
    def queued_ms(self) -> int:
        """How much is waiting to be played."""


class Door(Protocol):
    """Whether there is a session at all. Of interest to links that call for each one anew."""

    @property
    def is_open(self) -> bool: ...

    async def opened(self) -> None:
        """Wait until it is open."""

    async def shut(self) -> None:
        """Wait until it is shut."""


@dataclass(frozen=True, slots=True)
class LinkStats:
    """A snapshot; counters run over all sessions, the rest is of the present or the latest one."""

    connected: bool = False  # ICE and DTLS done: media can flow
    connections: int = 0
    connection_failures: int = 0
    frames_sent: int = 0  # handed to the transport
    frames_received: int = 0
    frames_concealed: int = 0
    frames_recovered: int = 0  # lost, and had from the packet after
    packets_lost: int = 0
    jitter_ms: float | None = None
    playout_delay_ms: float | None = None  # the jitter buffer's target
    rtt_ms: float | None = None
    send_delay_p50_ms: float | None = None  # captured to ready to send, latest 10 s
    send_delay_p99_ms: float | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """Whom a link calls, on the event loop."""

    connected: Callable[[], object] = lambda: None  # media can flow
    # By links that call for each session anew:
    ready: Callable[[], object] = lambda: None  # it waits for a session, and nothing is in its way
    hung_up: Callable[[], object] = lambda: None  # the hub ended the session of its own accord


class Link(Protocol):
    """One connection to a hub."""

    @property
    def stats(self) -> LinkStats: ...

    async def run(self) -> None:
        """Connect and stream until the connection ends, by an error or by cancellation.

        Raises `HubUnreachableError`, `HubRefusedError`, `HubAnswerError`. In either case everything it opened
        is closed again, and the hub told where the dialect has words for it. May be called again:
        reconnecting is the supervisor's business.
        """


def create(
    config: Config,
    microphone: Subscription,
    speaker: Speaker,
    door: Door,
    read_token: Callable[[], str | None],
    news: News,
) -> Link:
    """The link of `hub.dialect`. Each is imported when asked for, with what it needs."""
    if config.hub.dialect == "websocket":
        from pinna.links.websocket import WebSocketLink  # noqa: PLC0415  only this one

        return WebSocketLink(config, microphone, speaker, door, read_token, news)
    from pinna.links.webrtc import WebRTCLink  # noqa: PLC0415  only this one

    return WebRTCLink(config.hub, config.device_id, microphone, speaker, read_token, news.connected)
