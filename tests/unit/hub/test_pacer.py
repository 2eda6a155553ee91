from __future__ import annotations

import asyncio
import itertools

import pytest
from tests.support.clock import ManualClock

from pinna.hub.pacer import every_frame


class Enough(Exception):  # noqa: N818  the end, not an error
    pass


def ticks(count: int, busy: dict[int, float]) -> tuple[list[float], list[float]]:
    """(due, really) of `count` ticks, in seconds from the start; tick n keeps the loop busy for `busy[n]`."""
    clock = ManualClock(0.0)
    due: list[float] = []
    really: list[float] = []
    number = itertools.count()

    def tick(at: float) -> None:
        due.append(at)
        really.append(clock())
        clock.advance(busy.get(next(number), 0.0))
        if len(due) == count:
            raise Enough

    with pytest.raises(Enough):
        asyncio.run(every_frame(tick, clock, clock.sleep))
    return due, really


def test_no_drift_however_long_a_tick_takes() -> None:
    due, really = ticks(1000, dict.fromkeys(range(1000), 0.013))
    assert due == pytest.approx([0.02 * (n + 1) for n in range(1000)])
    assert really == pytest.approx(due)


def test_a_short_stall_is_caught_up() -> None:
    due, really = ticks(20, {3: 0.09})
    assert due == pytest.approx([0.02 * (n + 1) for n in range(20)])
    assert really[4:8] == pytest.approx([0.17] * 4)
    assert really[8:] == pytest.approx(due[8:])


def test_a_long_stall_is_left_out() -> None:
    due, really = ticks(20, {3: 7.0})
    assert really[4] == pytest.approx(7.08)
    assert really[4:] == pytest.approx([7.08 + 0.02 * n for n in range(16)])
    assert due[4:] == pytest.approx(really[4:])
