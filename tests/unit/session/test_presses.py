"""What fingers mean. Times are whole milliseconds, written as seconds."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pinna.session.presses import (
    DOUBLE_SECONDS,
    HOLD_SECONDS,
    RESTLESS_EDGES,
    RESTLESS_SECONDS,
    STUCK_SECONDS,
    Presses,
    Sign,
)

START = 100.0
LONG = 1000.0

gaps = st.lists(
    st.integers(50, 90_000).map(lambda ms: ms / 1000) | st.integers(50, 600).map(lambda ms: ms / 1000)
)


def signs(*after: float, pressed: bool = False, wait: float = LONG) -> list[tuple[Sign, float]]:
    """Of a button that changes after so many seconds each; each sign with the time it was due."""
    presses, at, told = Presses(pressed, START), START, []
    for seconds in after:
        at += seconds
        while (due := presses.due) is not None and due <= at:
            told += [(sign, due) for sign in presses.pass_time(due)]
        pressed = not pressed
        told += [(sign, at) for sign in presses.edge(at, pressed)]
    while (due := presses.due) is not None and due <= at + wait:
        told += [(sign, due) for sign in presses.pass_time(due)]
    return told


def names(*after: float, pressed: bool = False) -> list[Sign]:
    return [sign for sign, _ in signs(*after, pressed=pressed)]


def test_a_short_press_is_one_once_no_second_can_follow() -> None:
    ((sign, at),) = signs(1, 0.1)
    assert sign is Sign.SHORT
    assert at == START + 1.1 + DOUBLE_SECONDS


def test_a_double_press_is_told_at_the_second_press() -> None:
    first, second = signs(1, 0.1, 0.2, 0.1)
    assert first == (Sign.DOUBLE, START + 1 + 0.1 + 0.2)
    assert second == (Sign.DOUBLE_OVER, START + 1 + 0.1 + 0.2 + 0.1 + DOUBLE_SECONDS)


def test_two_presses_that_are_apart_are_two() -> None:
    assert names(1, 0.1, 0.4, 0.1) == [Sign.SHORT, Sign.SHORT]


def test_hammering_is_one_double_press_that_is_never_over() -> None:
    assert names(1, *[0.15] * 9) == [Sign.DOUBLE]


def test_a_hold_is_told_while_it_lasts_and_once() -> None:
    assert signs(1, 10) == [(Sign.HELD, START + 1 + HOLD_SECONDS)]
    assert names(1, 1.999) == [Sign.SHORT]


def test_held_for_a_minute_it_is_stuck_until_it_is_released() -> None:
    told = signs(1, 300, 5, 0.1)
    assert [sign for sign, _ in told] == [Sign.HELD, Sign.STUCK, Sign.WELL, Sign.SHORT]
    assert told[1][1] == START + 1 + STUCK_SECONDS
    assert told[2][1] == START + 301


def test_found_held_it_means_nothing_and_is_stuck_if_it_stays() -> None:
    assert names(1, pressed=True) == []
    assert names(1, 1, 0.1, pressed=True) == [Sign.SHORT]
    assert signs(pressed=True) == [(Sign.STUCK, START + HOLD_SECONDS)]
    assert names(30, pressed=True) == [Sign.STUCK, Sign.WELL]


def test_what_flutters_means_nothing_until_it_rests() -> None:
    after = [0.06] * (RESTLESS_EDGES + 5)
    told = signs(1, *after, 5, 0.1)
    assert [sign for sign, _ in told if sign is not Sign.DOUBLE] == [Sign.RESTLESS, Sign.WELL, Sign.SHORT]
    assert [sign for sign, _ in told].count(Sign.DOUBLE) <= 1
    assert Sign.DOUBLE_OVER not in [sign for sign, _ in told]


def test_flutter_that_rests_pressed_is_a_stuck_button() -> None:
    assert names(1, *[0.06] * (RESTLESS_EDGES + 2), 30)[-4:] == [
        Sign.RESTLESS,
        Sign.WELL,
        Sign.STUCK,
        Sign.WELL,
    ]


def test_an_edge_that_repeats_the_level_is_none() -> None:
    presses = Presses(False, START)
    told = [*presses.edge(101, True), *presses.edge(101.05, True), *presses.edge(101.1, False)]
    told += [*presses.edge(101.15, False), *presses.pass_time(110)]
    assert told == [Sign.SHORT]


@settings(deadline=None)  # a busy machine may take its time
@given(gaps, st.booleans())
def test_when_time_is_told_does_not_matter(after: list[float], pressed: bool) -> None:
    presses, at, told, level = Presses(pressed, START), START, [], pressed
    for seconds in after:
        at += seconds
        level = not level
        told += presses.edge(at, level)
    told += presses.pass_time(at + LONG)
    assert told == names(*after, pressed=pressed)


@settings(deadline=None)  # a busy machine may take its time
@given(gaps, st.booleans())
def test_no_more_signs_than_presses_and_troubles_end(after: list[float], pressed: bool) -> None:
    told = names(*after, pressed=pressed)
    presses = (len(after) + (not pressed)) // 2
    meant = [sign for sign in told if sign in (Sign.SHORT, Sign.DOUBLE, Sign.HELD)]
    assert len(meant) <= presses
    trouble = [sign for sign in told if sign in (Sign.STUCK, Sign.RESTLESS, Sign.WELL)]
    for before, then in itertools.pairwise(trouble):
        assert (before is Sign.WELL) != (then is Sign.WELL)
    ends_pressed = pressed ^ bool(len(after) % 2)
    if not ends_pressed and trouble:
        assert trouble[-1] is Sign.WELL


@settings(deadline=None)  # a busy machine may take its time
@given(st.lists(st.integers(500, 1900).map(lambda ms: ms / 1000), max_size=20))
def test_slow_short_presses_all_count(lengths: list[float]) -> None:
    after = [gap for length in lengths for gap in (1.0, length)]
    assert names(*after) == [Sign.SHORT] * len(lengths)


@settings(deadline=None)  # a busy machine may take its time
@given(gaps, st.booleans())
def test_while_it_flutters_nothing_is_meant(after: list[float], pressed: bool) -> None:
    fluttering = False
    for sign in names(*after, pressed=pressed):
        if fluttering:
            assert sign is Sign.WELL
        fluttering = sign is Sign.RESTLESS


def test_the_times_of_the_flutter_are_those_of_no_finger() -> None:
    assert RESTLESS_EDGES / 2 / RESTLESS_SECONDS == 6
