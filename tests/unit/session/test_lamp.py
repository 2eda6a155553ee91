"""The LED, by what is asked of its line."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.link_device import until

from pinna.config import SessionConfig
from pinna.errors import PinError
from pinna.session.lamp import EVERY_SECONDS, RHYTHMS, TROUBLES, Lamp
from pinna.session.sessions import Change, Sessions
from pinna.session.states import State


class FakeLine:
    """What `pinna.session.gpio.LampLine` is; `told` is what was asked of it, `gone` a chip that went away."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.gone = False
        self.released = False

    def shine(self, on: bool) -> None:
        if self.gone:
            raise PinError("GPIO 18 has gone", hint="It is opened again by itself")
        self.told.append(on)

    def release(self) -> None:
        self.released = True


def test_it_tells_the_state_and_is_dark_in_the_end() -> None:
    async def scenario() -> None:
        line = FakeLine()
        sessions = Sessions(SessionConfig(mode="button"), muted=False, hub_spoke_at=time.monotonic)
        lamp = Lamp(lambda: line, well=lambda: None)
        sessions.follow(lamp.follow)
        running = asyncio.create_task(lamp.run())
        await until(lambda: line.told == [False])
        sessions.open("test")
        await until(lambda: line.told == [False, True])
        sessions.mute("test")
        await until(lambda: line.told == [False, True, True, False])  # a flash
        sessions.unmute("test")
        sessions.open("test")  # before it could see the state between
        await until(lambda: line.told[-1])
        running.cancel()
        await asyncio.wait([running])
        assert line.told[-1] is False
        assert line.released

    asyncio.run(scenario())


def test_a_chip_that_goes_away_is_an_error_and_the_line_is_let_go() -> None:
    async def scenario() -> None:
        line = FakeLine()
        line.gone = True
        with pytest.raises(PinError):
            await Lamp(lambda: line, well=lambda: None).run()
        assert line.released

    asyncio.run(scenario())


def lamp(state: State, *unwell: str) -> Lamp:
    it = Lamp(FakeLine, well=lambda: None)
    it.follow(Change(state, state, "test"))
    for component in unwell:
        it.hear(component, well=False)
    return it


@pytest.mark.parametrize("state", [State.IDLE, State.LISTENING, State.SESSION])
@pytest.mark.parametrize(
    ("unwell", "flashes"),
    [(("link",), 2), (("audio",), 3), (("wakeword",), 4), (("button",), 4), (("button", "link", "audio"), 3)],
)
def test_trouble_is_told_by_the_number_of_flashes(
    state: State, unwell: tuple[str, ...], flashes: int
) -> None:
    rhythm = lamp(state, *unwell).rhythm
    assert sum(on for on, _ in rhythm) == flashes
    assert sum(seconds for _, seconds in rhythm) == pytest.approx(EVERY_SECONDS)


def test_a_mute_is_told_before_any_trouble_and_other_parts_trouble_nobody() -> None:
    assert lamp(State.MUTED, *TROUBLES).rhythm == RHYTHMS[State.MUTED]
    assert lamp(State.SESSION, "session", "led").rhythm == RHYTHMS[State.SESSION]


def test_what_has_healed_is_not_told_any_more() -> None:
    it = lamp(State.SESSION, "audio", "link")
    it.hear("audio", well=True)
    assert it.rhythm == TROUBLES["link"]
    it.hear("link", well=True)
    it.hear("wakeword", well=True)
    assert it.rhythm == RHYTHMS[State.SESSION]


def test_each_rhythm_can_be_told_from_the_others() -> None:
    distinct = {tuple(rhythm) for rhythm in [*RHYTHMS.values(), *TROUBLES.values()]}
    assert len(distinct) == 6  # idle and listening are one, and so are wake word and button


def test_trouble_that_comes_and_goes_is_shown_while_it_runs() -> None:
    async def scenario() -> None:
        line = FakeLine()
        it = Lamp(lambda: line, well=lambda: None)
        running = asyncio.create_task(it.run())
        await until(lambda: line.told == [False])
        it.hear("link", well=False)
        await until(lambda: line.told == [False, True, False, True, False])
        it.hear("link", well=True)
        await until(lambda: line.told == [False, True, False, True, False, False])
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())
