"""What keeps an image from being built, in one message."""

from __future__ import annotations

from pinna.errors import PinnaError


class ImageError(PinnaError):
    """`console` holds the last lines that a program or the emulated machine said; they end the message."""

    exit_code = 1

    def __init__(self, cause: str, *, hint: str, console: str = "") -> None:
        super().__init__(cause, hint=hint)
        self.console = console

    def __str__(self) -> str:
        if not self.console:
            return super().__str__()
        return f"{super().__str__()}\nIts last lines:\n{self.console}"


class BadInputError(ImageError):
    """An option or a file that was given cannot be used; nothing has been built."""

    exit_code = 3


class NoSpaceError(ImageError):
    exit_code = 4


class NotReproducibleError(ImageError):
    exit_code = 5
