"""What goes wrong with a virtual Pi, in one message."""

from __future__ import annotations

from pinna.errors import PinnaError


class VirtualPiError(PinnaError):
    """`console` holds the guest's last console lines, when there is a guest; they end the message."""

    def __init__(self, cause: str, *, hint: str, console: str = "") -> None:
        super().__init__(cause, hint=hint)
        self.console = console

    def __str__(self) -> str:
        if not self.console:
            return super().__str__()
        return f"{super().__str__()}\nThe console's last lines:\n{self.console}"
