"""How late the microphone's sound is read."""

from __future__ import annotations

import math

import pytest

from pinna.audio.behind import BLOCKS, Behind


def after(*waits: float, latency: float = 0.06) -> Behind:
    behind = Behind(latency)
    for waited in waits:
        behind.add(waited)
    return behind


def test_what_waits_for_two_seconds_is_too_far_behind() -> None:
    behind = after(*[2.2] * BLOCKS)
    assert behind.seconds == 2.2
    assert behind.too_far
    assert "2.2 s late" in str(behind.error())


def test_it_says_so_no_sooner_and_no_longer() -> None:
    assert not after(*[2.2] * (BLOCKS - 1)).too_far
    assert not after(*[2.2] * BLOCKS, *[0.02] * BLOCKS).too_far


def test_what_is_caught_up_with_was_not_behind() -> None:
    assert not after(*[2.2] * (BLOCKS - 1), 0.02).too_far


def test_the_latency_that_was_asked_for_may_wait() -> None:
    assert after(*[0.9] * BLOCKS).too_far
    assert not after(*[0.9] * BLOCKS, latency=1.0).too_far


@pytest.mark.parametrize("waited", [-1.0, 1e9, math.nan, math.inf, -math.inf])
def test_times_that_cannot_be_true_are_not_believed(waited: float) -> None:
    assert after(*[waited] * BLOCKS).seconds == 0
