"""GPIO lines, by the kernel's character device: the one place that knows of gpiod.

The kernel debounces and gives edges the time at which they happened, on CLOCK_MONOTONIC.
"""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal

from pinna.errors import ConfigError, PinError

if TYPE_CHECKING:
    import gpiod

Wiring = Literal["ground", "supply"]

DEBOUNCE: Final = timedelta(milliseconds=50)
CONSUMER: Final = "pinna"

HEADERS: Final = ("pinctrl-rp1", "pinctrl-bcm2")
"""How the label of the chip begins whose lines are at the header: of a Raspberry Pi 5, of the others."""


class ButtonLine:
    """A line held for input. `fd` can be read when there are edges."""

    def __init__(self, request: gpiod.LineRequest, pin: int, name: str) -> None:
        from gpiod.edge_event import EdgeEvent  # noqa: PLC0415  (an extra)
        from gpiod.line import Value  # noqa: PLC0415  (an extra)

        self.fd = request.fd
        self._request = request
        self._pin = pin
        self._name = name
        self._active = Value.ACTIVE
        self._rising = EdgeEvent.Type.RISING_EDGE

    def pressed(self) -> bool:
        """Raises PinError when the chip has gone."""
        try:
            return self._request.get_value(self._pin) is self._active
        except OSError as error:
            raise _gone(self._name, error) from error

    def edges(self) -> list[tuple[float, bool]]:
        """When, in seconds of time.monotonic(), and whether it was a press. Call it when `fd` can be read."""
        try:
            events = self._request.read_edge_events()
        except OSError as error:
            raise _gone(self._name, error) from error
        return [(event.timestamp_ns / 1e9, event.event_type is self._rising) for event in events]

    def release(self) -> None:
        self._request.release()


class LampLine:
    """A line held for output; dark at first."""

    def __init__(self, request: gpiod.LineRequest, pin: int, name: str) -> None:
        from gpiod.line import Value  # noqa: PLC0415  (an extra)

        self._request = request
        self._pin = pin
        self._name = name
        self._values = {True: Value.ACTIVE, False: Value.INACTIVE}

    def shine(self, on: bool) -> None:
        """Raises PinError when the chip has gone."""
        try:
            self._request.set_value(self._pin, self._values[on])
        except OSError as error:
            raise _gone(self._name, error) from error

    def release(self) -> None:
        self._request.release()


def open_button(chip: str, pin: int, wiring: Wiring) -> ButtonLine:
    """`chip`: a path, or empty for that of the header. Raises PinError, ConfigError."""
    library = _gpiod("session.button_pin")
    from gpiod.line import Bias, Direction, Edge  # noqa: PLC0415  (an extra)

    to_ground = wiring == "ground"
    settings = library.LineSettings(
        direction=Direction.INPUT,
        edge_detection=Edge.BOTH,
        bias=Bias.PULL_UP if to_ground else Bias.PULL_DOWN,
        active_low=to_ground,
        debounce_period=DEBOUNCE,
    )
    path = chip or _header(library)
    request = _request(library, path, pin, settings, "session.button_pin")
    return ButtonLine(request, pin, f"GPIO {pin} of {path}")


def open_lamp(chip: str, pin: int) -> LampLine:
    """Likewise."""
    library = _gpiod("session.led_pin")
    from gpiod.line import Direction  # noqa: PLC0415  (an extra)

    path = chip or _header(library)
    request = _request(
        library, path, pin, library.LineSettings(direction=Direction.OUTPUT), "session.led_pin"
    )
    return LampLine(request, pin, f"GPIO {pin} of {path}")


def _gpiod(key: str) -> ModuleType:
    try:
        import gpiod  # noqa: PLC0415  (an extra)
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"{key} needs the package `gpiod`, which cannot be loaded ({error})",
            hint="Install it: pip install 'pinna[button]', or set `session.mode` to another one",
            permanent=True,
        ) from error
    return gpiod


def _header(library: ModuleType) -> str:
    """The chip whose lines are at the header of a Raspberry Pi."""
    chips = sorted(map(str, Path("/dev").glob("gpiochip*")))
    for path in chips:
        with _chip(library, path) as chip:
            if chip.get_info().label.startswith(HEADERS):
                return path
    has = f"its chips are {', '.join(chips)}" if chips else "it has no GPIO at all"
    raise PinError(
        f"this machine has no header of a Raspberry Pi ({has})",
        hint="Name the chip in `session.gpio_chip` (`gpiodetect` lists them), or set `session.mode` to one "
        "without a button and `session.led_pin` to -1",
        permanent=True,
    )


def _chip(library: ModuleType, path: str) -> gpiod.Chip:
    try:
        chip: gpiod.Chip = library.Chip(path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            cause, hint = (
                f"{path} may not be opened",
                "Let the user Pinna runs as be in the group of that file",
            )
        elif error.errno == errno.ENOENT:
            cause, hint = f"there is no {path}", "Correct `session.gpio_chip`: `gpiodetect` lists the chips"
        else:
            cause, hint = f"{path} is no GPIO chip ({error.strerror})", "Correct `session.gpio_chip`"
        raise PinError(cause, hint=hint, permanent=True) from error
    return chip


def _request(
    library: ModuleType, path: str, pin: int, settings: gpiod.LineSettings, key: str
) -> gpiod.LineRequest:
    name = f"GPIO {pin} of {path}"
    with _chip(library, path) as chip:
        lines = chip.get_info().num_lines
        if pin >= lines:
            raise PinError(
                f"there is no {name}, which has {lines} lines",
                hint=f"Set `{key}` to one from 0 to {lines - 1}",
                permanent=True,
            )
        try:
            return chip.request_lines({pin: settings}, consumer=CONSUMER)
        except OSError as error:
            if error.errno == errno.EBUSY:
                user = chip.get_line_info(pin).consumer or "another program or driver"
                raise PinError(
                    f"{name} is in use by {user}",
                    hint=f"Stop that, or set `{key}` to another; drivers are `dtoverlay=` in config.txt",
                    permanent=True,
                ) from error
            raise PinError(
                f"{name} cannot be used ({error.strerror})",
                hint=f"Set `{key}` to another; a button needs one with interrupts",
                permanent=True,
            ) from error


def _gone(name: str, error: OSError) -> PinError:
    return PinError(f"{name} has gone ({error.strerror})", hint="It is opened again by itself")
