"""The LED, by what is asked of its line."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.link_device import until

from pinna.config import SessionConfig
from pinna.errors import PinError
from pinna.session.lamp import Lamp
from pinna.session.sessions import Sessions


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
