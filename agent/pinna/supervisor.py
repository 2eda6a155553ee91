"""One restart policy for every component. Knows nothing of audio.

A component is a coroutine function that runs until it fails. Whoever made it marks its `Component` ok as
soon as it really works (a link: when media flows); everything else happens here:

- it fails: state failed, with cause and hint; again after a back-off that doubles up to a cap, with jitter so
  that a fleet does not return in step. The back-off starts anew once a run has worked for `healthy_seconds`.
- it fails for good (`PinnaError.permanent`): the same, but the next attempt is `permanent_seconds` away. Five
  minutes hammer nobody, and a corrected credential or a repaired device is picked up without a visit.
- it raises anything else: a defect of ours. Logged with its traceback, and retried with back-off.
- it returns: state stopped, and supervision ends.
- it is cancelled: state stopped, and the cancellation goes on.

Log: WARNING when it fails, DEBUG while it goes on failing for the same cause, WARNING when the cause
changes, INFO when it works again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import structlog

from pinna.errors import PinnaError
from pinna.health import Component

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds. The n-th failure in a row waits `first` * 2**(n-1), at most `cap`, give or take `jitter`."""

    first: float = 3.0
    cap: float = 30.0
    jitter: float = 0.2
    healthy_seconds: float = 60.0
    permanent_seconds: float = 300.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """The wait after this many failures in a row (1 or more)."""
        doublings = min(failures - 1, 32)  # past any cap, and far from overflow
        return min(self.first * 2.0**doublings, self.cap) * rng.uniform(1 - self.jitter, 1 + self.jitter)


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    backoff: Backoff,
    health: Component,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rng: random.Random | None = None,
) -> None:
    """Run it, and again whenever it fails. Returns when it returns; raises nothing but cancellation."""
    rng = rng or random.Random()  # noqa: S311  (jitter, not a secret)
    trouble = _Trouble(name, clock)
    health.on_change.append(trouble.watch)
    failures = 0
    try:
        health.starting()
        while True:
            try:
                await run()
            except asyncio.CancelledError as error:
                if _being_cancelled():
                    raise
                failure = _Failure.of(error)  # something inside was cancelled and nobody caught it
            except Exception as error:  # noqa: BLE001  (whatever it is, it is this component's alone)
                failure = _Failure.of(error)
            else:
                log.info("component.stopped", component=name)
                return
            failures = 1 if health.up_seconds >= backoff.healthy_seconds else failures + 1
            delay = backoff.permanent_seconds if failure.permanent else backoff.delay(failures, rng)
            trouble.report(failure, delay)
            health.failed(failure.cause, failure.hint)
            await sleep(delay)
    finally:
        health.on_change.remove(trouble.watch)
        health.stopped()


@dataclass(frozen=True, slots=True)
class _Failure:
    cause: str
    hint: str
    permanent: bool
    defect: BaseException | None  # not an error we know how to explain

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        leaves = list(_leaves(error))
        known = [leaf for leaf in leaves if isinstance(leaf, PinnaError)]
        if len(known) < len(leaves):
            strange = next(leaf for leaf in leaves if not isinstance(leaf, PinnaError))
            cause = f"internal error: {type(strange).__name__}: {strange}".rstrip(": ")
            return cls(
                cause, "This is a defect of Pinna: report it with the traceback in the log", False, error
            )
        worst = max(known, key=lambda leaf: leaf.permanent)
        return cls(worst.cause, worst.hint, worst.permanent, None)


class _Trouble:
    """Says a thing once: what has been failing, since when, and when it is over."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._log = log.bind(component=name)
        self._clock = clock
        self._cause: str | None = None
        self._since = 0.0
        self._attempts = 0

    def report(self, failure: _Failure, delay: float) -> None:
        repeated = failure.cause == self._cause
        if self._cause is None:
            self._since, self._attempts = self._clock(), 0
        self._cause = failure.cause
        self._attempts += 1
        say = self._log.debug if repeated else self._log.warning
        say(
            "component.crashed" if failure.defect else "component.failed",
            cause=failure.cause,
            hint=failure.hint,
            permanent=failure.permanent,
            attempt=self._attempts,
            retry_in_seconds=round(delay, 1),
            exc_info=failure.defect,
        )

    def watch(self, component: Component) -> None:
        if self._cause is not None and component.state in ("ok", "degraded"):
            down = round(self._clock() - self._since, 1)
            self._log.info("component.recovered", after_failures=self._attempts, down_seconds=down)
            self._cause = None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group (a TaskGroup raises one), or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
