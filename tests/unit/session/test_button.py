"""The button on real sessions, through a file descriptor on the event loop; and the kernel's own words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.button import FakeLine
from tests.support.link_device import until

from pinna.config import SessionConfig
from pinna.errors import PinError
from pinna.health import Component
from pinna.session import gpio
from pinna.session.button import Button
from pinna.session.presses import STUCK_SECONDS, Sign
from pinna.session.sessions import Sessions


class Bench:
    def __init__(self, *, held: bool = False, muted: bool = False) -> None:
        self.line = FakeLine(held=held)
        self.at = time.monotonic() - 60
        self.sessions = Sessions(SessionConfig(mode="button"), muted=muted, hub_spoke_at=time.monotonic)
        self.component = Component("button")
        self.button = Button(
            self.sessions,
            lambda: self.line,
            well=self.component.ok,
            trouble=self.component.degraded,
        )

    def press(self, *seconds: float) -> None:
        """Changes, each so many seconds after the one before; the first ones of them a minute ago."""
        level = self.line.pressed()
        for gap in seconds:
            self.at, level = self.at + gap, not level
            self.line.put(level, self.at)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def body() -> None:
            running = asyncio.create_task(self.button.run())
            try:
                await until(lambda: self.component.state != "starting" or running.done())
                await scenario()
            finally:
                running.cancel()
                await asyncio.wait([running])
            assert self.line.released

        asyncio.run(body())


def test_a_short_press_opens_and_a_hold_closes() -> None:
    bench = Bench()

    async def scenario() -> None:
        bench.press(0.1, 0.1)
        await until(lambda: bench.sessions.state == "session")
        assert bench.sessions.by == "button"
        bench.line.put(True, time.monotonic() - 5)  # and still held
        await until(lambda: bench.sessions.state == "idle")
        assert bench.button.presses == {Sign.SHORT: 1, Sign.HELD: 1}

    bench.run(scenario)


def test_a_double_press_mutes_at_once_and_another_one_ends_it() -> None:
    bench = Bench()

    async def scenario() -> None:
        bench.sessions.open("test")
        bench.press(0.1, 0.1, 0.1)
        await until(lambda: bench.sessions.state == "muted")
        bench.press(0.1)
        bench.press(1, 0.1, 1, 0.1)  # one press does not, nor does another one later
        await until(lambda: bench.button.presses[Sign.SHORT] == 2)
        assert bench.sessions.state == "muted"
        bench.press(1, 0.1, 0.1, 0.1)
        await until(lambda: bench.sessions.state == "idle")

    bench.run(scenario)


def test_a_flutter_never_ends_a_mute_and_is_told_until_it_rests() -> None:
    bench = Bench(muted=True)

    async def scenario() -> None:
        bench.at = time.monotonic()
        bench.press(*[0.06] * 40)
        await until(lambda: bench.component.state == "degraded")
        assert "faster than a finger" in bench.component.reason
        assert "wire loose" in bench.component.hint
        await until(lambda: bench.component.state == "ok")
        assert bench.sessions.state == "muted"

    bench.run(scenario)


def test_a_button_that_is_stuck_is_told_and_heals() -> None:
    bench = Bench()

    async def scenario() -> None:
        bench.line.put(True, time.monotonic() - STUCK_SECONDS)
        await until(lambda: bench.component.state == "degraded")
        assert "session.button_wiring" in bench.component.hint
        bench.line.put(False)
        await until(lambda: bench.component.state == "ok")

    bench.run(scenario)


def test_a_button_found_held_opens_nothing() -> None:
    bench = Bench(held=True)

    async def scenario() -> None:
        await until(lambda: bench.component.state == "degraded")
        bench.line.put(False)
        await until(lambda: bench.component.state == "ok")
        assert not bench.button.presses
        assert bench.sessions.state == "idle"

    bench.run(scenario)


def test_a_chip_that_goes_away_is_an_error_and_the_line_is_let_go() -> None:
    bench = Bench()

    async def scenario() -> None:
        running = asyncio.create_task(bench.button.run())
        await until(lambda: bench.component.state == "ok")
        bench.line.pull()
        with pytest.raises(PinError, match="has gone"):
            await running
        assert bench.line.released

    asyncio.run(scenario())


class TestOfTheKernel:
    """Through the real library, as far as a machine without GPIO goes."""

    def test_a_chip_that_is_not_there(self) -> None:
        with pytest.raises(PinError, match=r"there is no /dev/gpiochip-none.*gpiodetect"):
            gpio.open_button("/dev/gpiochip-none", 17, "ground")

    def test_a_chip_that_is_none(self) -> None:
        with pytest.raises(PinError, match=r"/dev/null is no GPIO chip.*session.gpio_chip"):
            gpio.open_lamp("/dev/null", 18)

    @pytest.mark.skipif(any(Path("/dev").glob("gpiochip*")), reason="this machine has GPIO")
    def test_a_machine_without_any(self) -> None:
        with pytest.raises(PinError, match=r"it has no GPIO at all.*session.mode"):
            gpio.open_button("", 17, "ground")
