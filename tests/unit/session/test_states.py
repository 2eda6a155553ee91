"""Every state with every event, in every mode."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from pinna.config import KEYS
from pinna.session.states import REST, Event, Mode, State, after

MODES: tuple[Mode, ...] = get_args(Mode)


def test_the_modes_are_those_of_the_configuration() -> None:
    assert KEYS["session.mode"].choices == MODES
    assert REST.keys() == set(MODES)


@pytest.mark.parametrize(("mode", "state"), list(itertools.product(MODES, State)))
def test_mute_wins_over_everything_and_only_unmute_ends_it(mode: Mode, state: State) -> None:
    assert after(state, Event.MUTE, mode) is State.MUTED
    for event in set(Event) - {Event.UNMUTE}:
        assert after(State.MUTED, event, mode) is State.MUTED
    assert after(State.MUTED, Event.UNMUTE, mode) is REST[mode]


@pytest.mark.parametrize("mode", MODES)
def test_a_session_opens_from_rest_and_closes_to_it(mode: Mode) -> None:
    assert after(REST[mode], Event.OPEN, mode) is State.SESSION
    assert after(State.SESSION, Event.CLOSE, mode) is REST[mode]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "always"])
def test_only_open_leads_into_a_session(mode: Mode) -> None:
    for state, event in itertools.product(set(State) - {State.SESSION}, set(Event) - {Event.OPEN}):
        assert after(state, event, mode) is not State.SESSION


@pytest.mark.parametrize("mode", MODES)
def test_what_is_asked_twice_changes_nothing(mode: Mode) -> None:
    for state, event in itertools.product(State, Event):
        once = after(state, event, mode)
        assert after(once, event, mode) is once
