"""What is missing by the clock: found, measured, and not imagined."""

from __future__ import annotations

import numpy as np

from pinna.recorder.continuity import SETTLE_SECONDS, Continuity
from pinna.recorder.events import Chunk, Lost

RATE = 1000


class Card:
    """Chunks of a tenth of a second, as they arrive; `late`: how long each was on its way at most."""

    def __init__(self, late: float = 0.0) -> None:
        self.continuity = Continuity(RATE)
        self.delivered: list[Chunk | Lost] = []
        self.now = 1000.0
        self._late = late
        self._chance = np.random.default_rng(3)

    def play(self, seconds: float, each: float = 0.1) -> None:
        for _ in range(round(seconds / 0.1)):
            self.now += each
            chunk = Chunk(bytes(2 * 100), self.now + float(self._chance.uniform(0, self._late)))
            self.delivered += self.continuity.take(chunk, 100)

    def overrun(self) -> None:
        self.delivered += self.continuity.overrun("overrun!!! (at least 36000000.000 ms long)")

    @property
    def lost(self) -> list[Lost]:
        return [event for event in self.delivered if isinstance(event, Lost)]

    @property
    def chunks(self) -> int:
        return sum(isinstance(event, Chunk) for event in self.delivered)


def test_what_nobody_reported_is_found_by_the_clock():
    card = Card()
    card.play(40)
    card.now += 0.1
    card.play(40)
    (lost,) = card.lost
    assert (lost.reason, lost.estimated) == ("unreported", True)
    assert abs(lost.samples - 100) <= 2
    assert card.chunks == 800


def test_a_card_whose_crystal_is_off_loses_nothing():
    card = Card(late=0.05)
    card.play(600, each=0.1 * (1 + 200e-6))
    assert card.lost == []


def test_an_overrun_is_as_long_as_the_clock_says_whatever_arecord_does():
    card = Card(late=0.08)
    card.play(40)
    card.now += 1.25
    card.overrun()
    card.play(SETTLE_SECONDS)
    assert card.lost == []  # what came since is held back
    assert card.chunks == 400
    card.play(60)
    (lost,) = card.lost
    assert lost.reason == "xrun"
    assert abs(lost.samples - 1250) <= 0.08 * RATE
    assert "36000000" in lost.detail
    assert card.delivered[400] is lost
    assert card.chunks == 400 + 600 + round(10 * SETTLE_SECONDS)


def test_overruns_that_follow_each_other_are_each_told():
    card = Card()
    card.play(20)
    for _ in range(5):
        card.now += 0.7
        card.overrun()
        card.play(0.5)
    card.play(40)
    assert [lost.samples for lost in card.lost] == [700] * 5
    assert card.chunks == 200 + 25 + 400


def test_an_overrun_after_which_nothing_comes_is_left_to_what_follows():
    """As a plugin reports that its server has died."""
    card = Card()
    card.play(20)
    card.overrun()
    card.delivered += card.continuity.end()
    assert card.lost == []


def test_an_overrun_before_the_first_sample_costs_none():
    card = Card()
    card.overrun()
    card.play(20)
    assert card.lost == []
    assert card.chunks == 200
