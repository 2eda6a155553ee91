"""How each component is, how the whole is, and what systemd is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

State = Literal["starting", "ok", "degraded", "failed", "stopped"]
_WORST_FIRST: tuple[State, ...] = ("failed", "degraded", "starting", "ok", "stopped")


class Component:
    """The state of one part. Its owner calls the verbs; equal news is no news: nobody is called.

    `reason` says why it is degraded or failed, `hint` the cure; both empty otherwise. `since`: when the state
    began. Event loop only.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.state: State = "starting"
        self.reason = ""
        self.hint = ""
        self.since = clock()
        self.on_change: list[Callable[[Component], None]] = []
        self._clock = clock
        self._up_since: float | None = None

    def starting(self) -> None:
        self._become("starting")

    def ok(self) -> None:
        self._become("ok")

    def degraded(self, reason: str, hint: str = "") -> None:
        """It does its work, but not as configured."""
        self._become("degraded", reason, hint)

    def failed(self, reason: str, hint: str = "") -> None:
        """It does not do its work."""
        self._become("failed", reason, hint)

    def stopped(self) -> None:
        """It has ended and was meant to."""
        self._become("stopped")

    @property
    def up_seconds(self) -> float:
        """For how long it has been working without a break (ok or degraded)."""
        return 0.0 if self._up_since is None else self._clock() - self._up_since

    def as_dict(self) -> dict[str, str | float]:
        body: dict[str, str | float] = {
            "state": self.state,
            "for_seconds": round(self._clock() - self.since, 1),
        }
        if self.reason:
            body["reason"] = self.reason
        if self.hint:
            body["hint"] = self.hint
        return body

    def _become(self, state: State, reason: str = "", hint: str = "") -> None:
        if (state, reason, hint) == (self.state, self.reason, self.hint):
            return
        if state not in ("ok", "degraded"):
            self._up_since = None
        elif self._up_since is None:
            self._up_since = self._clock()
        if state != self.state:
            self.since = self._clock()
        self.state, self.reason, self.hint = state, reason, hint
        for listener in tuple(self.on_change):
            listener(self)


class Health:
    """All components of a process, in the order they were made."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._components: dict[str, Component] = {}
        self.on_change: list[Callable[[Component], None]] = []

    def component(self, name: str) -> Component:
        """The component of that name, made at the first call."""
        if name not in self._components:
            component = self._components[name] = Component(name, self._clock)
            component.on_change.append(self._changed)
        return self._components[name]

    @property
    def components(self) -> tuple[Component, ...]:
        return tuple(self._components.values())

    @property
    def state(self) -> State:
        """The worst of all: failed, degraded, starting, ok, stopped."""
        return min((c.state for c in self.components), key=_WORST_FIRST.index, default="starting")

    def as_dict(self) -> dict[str, dict[str, str | float]]:
        return {component.name: component.as_dict() for component in self.components}

    def summary(self) -> str:
        """One line for `systemctl status`: the overall state, then whatever is not well."""
        troubles = [
            f"{c.name} {c.state}" + (f" ({c.reason})" if c.reason else "")
            for c in self.components
            if c.state not in ("ok", "stopped")
        ]
        return ": ".join([self.state, "; ".join(troubles)] if troubles else [self.state])

    def _changed(self, component: Component) -> None:
        for listener in tuple(self.on_change):
            listener(component)


class SystemdNotifier:
    """sd_notify(3) over the datagram socket in $NOTIFY_SOCKET. Without one: silence."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = _watchdog_seconds(environ)

    @property
    def watchdog_seconds(self) -> float | None:
        """How long systemd waits for a sign of life; None when it does not."""
        return self._watchdog_seconds

    def ready(self) -> None:
        self.send("READY=1")

    def stopping(self) -> None:
        self.send("STOPPING=1")

    def status(self, text: str) -> None:
        self.send("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        self.send("WATCHDOG=1")

    def send(self, *assignments: str) -> None:
        """One datagram, without waiting. Never raises: who does not listen is not our failure."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
        ):
            out.setblocking(False)
            out.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)


class Watchdog:
    """Feeds systemd's watchdog only while captured frames advance: a deaf agent must not look alive.

    It looks far more often than systemd asks for (at half the time, sd_watchdog_enabled(3)): one look that
    sees nothing, at a device that is just being opened, must not cost half of what is allowed.
    """

    LOOKS = 12

    def __init__(
        self,
        frames: Callable[[], int],
        notifier: SystemdNotifier,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`frames`: how many have been captured; it may begin anew when the device does."""
        self._frames = frames
        self._notifier = notifier
        self._sleep = sleep
        self._seen = frames()

    def check(self) -> bool:
        """Feed if frames have come since the last check."""
        now = self._frames()
        begun_anew = now < self._seen
        advanced = now > (0 if begun_anew else self._seen)
        self._seen = now
        if advanced:
            self._notifier.alive()
        return advanced

    async def run(self) -> None:
        """Check `LOOKS` times in the time that systemd allows; return at once if it does not watch."""
        allowed = self._notifier.watchdog_seconds
        while allowed is not None:
            await self._sleep(allowed / self.LOOKS)
            self.check()


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """$WATCHDOG_USEC, unless $WATCHDOG_PID names another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
