"""A button without GPIO: what `pinna.session.gpio.ButtonLine` is, with a real file descriptor."""

from __future__ import annotations

import os
import struct
import time

from pinna.errors import PinError


class FakeLine:
    """`press` and `release_button` come from outside; `pulled` is a chip that goes away."""

    def __init__(self, *, held: bool = False) -> None:
        self.fd, self._in = os.pipe()
        self.released = False
        self._level = held

    def pressed(self) -> bool:
        return self._level

    def put(self, pressed: bool, at: float | None = None) -> None:
        """An edge, at that time of time.monotonic(), or now."""
        self._level = pressed
        os.write(self._in, struct.pack("=d?", time.monotonic() if at is None else at, pressed))

    def pull(self) -> None:
        os.close(self._in)

    def edges(self) -> list[tuple[float, bool]]:
        """As of the kernel: it waits when there are none."""
        data = os.read(self.fd, struct.calcsize("=d?") * 64)
        if not data:
            raise PinError("GPIO 17 of a fake has gone (No such device)", hint="It is opened again by itself")
        return list(struct.iter_unpack("=d?", data))

    def release(self) -> None:
        os.close(self.fd)
        self.released = True
