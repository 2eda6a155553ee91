from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.support.clock import ManualClock

from pinna.errors import ConfigError, HubRefusedError, HubUnreachableError
from pinna.health import Component
from pinna.supervisor import Backoff, supervise

STEADY = Backoff(first=3.0, cap=30.0, jitter=0.0, healthy_seconds=60.0, permanent_seconds=300.0)
AWAY = HubUnreachableError("nobody answers at http://hub:8080", hint="Start the hub")
GONE = HubUnreachableError("the connection to http://hub:8080 died", hint="Look at the network")
DENIED = HubRefusedError("http://hub:8080 rejects the token", hint="Correct hub.token_file", permanent=True)


class Scene:
    """A component that plays a script: errors are raised, callables called first; at the end it returns."""

    def __init__(self, *script: BaseException | Callable[[Scene], None], backoff: Backoff = STEADY) -> None:
        self.clock = ManualClock()
        self.health = Component("link", self.clock)
        self.backoff = backoff
        self.states: list[tuple[str, str]] = []
        self._script = iter(script)
        self.runs = 0
        self.logs: list[dict[str, Any]] = []

    async def component(self) -> None:
        self.runs += 1
        self.states.append((self.health.state, self.health.reason))
        for step in self._script:
            if isinstance(step, BaseException):
                raise step
            step(self)

    async def supervise(self, run: Callable[[], Awaitable[None]] | None = None) -> None:
        await supervise(
            "link",
            run or self.component,
            backoff=self.backoff,
            health=self.health,
            clock=self.clock,
            sleep=self.clock.sleep,
            rng=random.Random(1),
        )

    def play(self) -> Scene:
        with capture_logs() as logs:
            asyncio.run(self.supervise())
        self.logs = [dict(entry) for entry in logs]
        return self

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(entry["log_level"], entry["event"]) for entry in self.logs]


def work_for(seconds: float) -> Callable[[Scene], None]:
    def step(scene: Scene) -> None:
        scene.health.ok()
        scene.clock.advance(seconds)

    return step


def test_a_component_that_returns_has_stopped() -> None:
    scene = Scene().play()
    assert (scene.runs, scene.health.state, scene.clock.slept) == (1, "stopped", [])
    assert scene.states == [("starting", "")]


def test_the_wait_doubles_up_to_the_cap() -> None:
    scene = Scene(*[AWAY] * 6).play()
    assert scene.clock.slept == [3, 6, 12, 24, 30, 30]
    assert scene.runs == 7


def test_while_it_waits_and_tries_again_it_stays_failed_with_cause_and_cure() -> None:
    scene = Scene(AWAY, GONE).play()
    assert scene.states == [("starting", ""), ("failed", AWAY.cause), ("failed", GONE.cause)]


def test_a_run_that_worked_long_enough_starts_the_wait_anew() -> None:
    scene = Scene(AWAY, AWAY, work_for(59.9), AWAY, work_for(60.0), AWAY, AWAY).play()
    assert scene.clock.slept == [3, 6, 12, 3, 6]


def test_a_run_that_took_long_but_never_worked_does_not() -> None:
    scene = Scene(AWAY, lambda scene: scene.clock.advance(1000), AWAY).play()
    assert scene.clock.slept == [3, 6]


def test_degraded_is_working_too() -> None:
    def degraded(scene: Scene) -> None:
        scene.health.degraded("no loudspeaker")
        scene.clock.advance(61)

    scene = Scene(AWAY, AWAY, degraded, AWAY).play()
    assert scene.clock.slept == [3, 6, 3]


def test_what_waiting_cannot_mend_is_tried_again_rarely_and_stays_visible() -> None:
    scene = Scene(DENIED, DENIED, AWAY, AWAY).play()
    assert scene.clock.slept == [300, 300, 12, 24]
    assert scene.states[1] == ("failed", DENIED.cause)


def test_the_failed_state_carries_the_cure() -> None:
    seen: list[str] = []
    Scene(DENIED, lambda scene: seen.append(scene.health.hint)).play()
    assert seen == ["Correct hub.token_file"]


def test_a_defect_is_logged_with_its_traceback_and_retried() -> None:
    scene = Scene(ZeroDivisionError("division by zero"), ValueError()).play()
    assert scene.clock.slept == [3, 6]
    assert scene.states[1:] == [
        ("failed", "internal error: ZeroDivisionError: division by zero"),
        ("failed", "internal error: ValueError"),
    ]
    assert [entry["event"] for entry in scene.logs] == [
        "component.crashed",
        "component.crashed",
        "component.stopped",
    ]
    assert isinstance(scene.logs[0]["exc_info"], ZeroDivisionError)


def test_errors_in_a_group_are_told_apart() -> None:
    known = ExceptionGroup("two", [AWAY, ExceptionGroup("inner", [DENIED])])
    mixed = ExceptionGroup("two", [AWAY, KeyError("x")])
    scene = Scene(known, mixed).play()
    assert scene.clock.slept == [300, 6]
    assert [reason for _, reason in scene.states[1:]] == [DENIED.cause, "internal error: KeyError: 'x'"]


class TestLog:
    def test_warning_then_debug_then_warning_for_another_cause_then_info(self) -> None:
        scene = Scene(AWAY, AWAY, GONE, GONE, work_for(1)).play()
        assert scene.said == [
            ("warning", "component.failed"),
            ("debug", "component.failed"),
            ("warning", "component.failed"),
            ("debug", "component.failed"),
            ("info", "component.recovered"),
            ("info", "component.stopped"),
        ]
        first, recovered = scene.logs[0], scene.logs[4]
        assert first["component"] == "link"
        assert (first["cause"], first["hint"]) == (AWAY.cause, AWAY.hint)
        assert first["retry_in_seconds"] == 3
        assert (recovered["after_failures"], recovered["down_seconds"]) == (4, 3 + 6 + 12 + 24)

    def test_a_failure_after_recovery_is_news(self) -> None:
        scene = Scene(AWAY, work_for(1), AWAY, AWAY).play()
        assert [level for level, event in scene.said if event == "component.failed"] == [
            "warning",
            "warning",
            "debug",
        ]

    def test_nothing_to_recover_from_is_no_news(self) -> None:
        scene = Scene(work_for(1)).play()
        assert scene.said == [("info", "component.stopped")]

    def test_each_permanent_cause_once(self) -> None:
        scene = Scene(*[DENIED] * 3).play()
        assert [level for level, _ in scene.said] == ["warning", "debug", "debug", "info"]
        assert scene.logs[0]["permanent"] is True


class TestCancellation:
    def test_passes_through_a_run_and_through_a_wait(self) -> None:
        async def forever() -> None:
            running.set()
            await asyncio.Event().wait()

        async def fail() -> None:
            running.set()
            raise AWAY

        async def scenario(run: Callable[[], Awaitable[None]]) -> Component:
            health = Component("link")
            task = asyncio.create_task(supervise("link", run, backoff=Backoff(first=3600), health=health))
            await running.wait()
            await asyncio.sleep(0)
            assert health.state != "stopped"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return health

        for run in (forever, fail):
            running = asyncio.Event()
            assert asyncio.run(scenario(run)).state == "stopped"

    def test_of_something_inside_is_a_defect_not_the_end(self) -> None:
        async def stray() -> None:
            if scene.runs:
                return
            scene.runs += 1
            inner = asyncio.create_task(asyncio.sleep(3600))
            inner.cancel()
            await inner

        scene = Scene()
        with capture_logs() as logs:
            asyncio.run(scene.supervise(stray))
        assert scene.clock.slept == [3]
        assert "CancelledError" in logs[0]["cause"]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_the_process_may_always_end(self, kind: type[BaseException]) -> None:
        scene = Scene(kind())
        with pytest.raises(kind):
            scene.play()
        assert scene.runs == 1


def test_one_component_fails_for_good_and_the_others_do_not_notice() -> None:
    async def scenario() -> tuple[Scene, Scene]:
        broken = Scene(*[ConfigError("bad", hint="Correct it", permanent=True)] * 5)
        sound = Scene(work_for(1))
        async with asyncio.TaskGroup() as group:
            group.create_task(broken.supervise())
            group.create_task(sound.supervise())
        return broken, sound

    with capture_logs():
        broken, sound = asyncio.run(scenario())
    assert (broken.runs, sound.runs, sound.clock.slept) == (6, 1, [])


def test_it_leaves_no_listener_behind() -> None:
    scene = Scene(AWAY).play()
    assert scene.health.on_change == []


@settings(deadline=None, database=None)
@given(
    failures=st.integers(1, 10_000),
    seed=st.integers(),
    first=st.floats(0.01, 3600),
    cap=st.floats(0.01, 3600),
)
def test_the_wait_is_never_nothing_and_never_beyond_the_cap(
    failures: int, seed: int, first: float, cap: float
) -> None:
    delay = Backoff(first=first, cap=cap).delay(failures, random.Random(seed))
    assert 0.8 * min(first, cap) <= delay <= 1.2 * cap * (1 + 1e-9)


def test_jitter_spreads_a_fleet() -> None:
    def delays() -> Iterator[float]:
        rng = random.Random(1)
        for _ in range(1000):
            yield Backoff().delay(1, rng)

    low, high = min(delays()), max(delays())
    assert 2.4 <= low < 2.45
    assert 3.55 < high <= 3.6
