"""Plug a virtual SH-04 into a virtual Pi, and pull it out."""

from __future__ import annotations

from pathlib import Path

from tests.virtual_pi.machine import GATEWAY, Machine
from tests.virtual_pi.server import UsbipServer

PATIENT = "--period-size=4800 --buffer-size=192000"
"""For arecord, where pauses of the host shall not matter: the kernel ends a read with EIO when no sample came
for 1.1 times the buffer's length (wait_for_avail in sound/core/pcm_lib.c), half a second by default."""

_ATTACH = (Path(__file__).parent / "guest_attach.py").read_text()


def attach(pi: Machine, server: UsbipServer, busid: str, *, port: int | None = None) -> tuple[int, int]:
    """Attach `busid` in the guest; (vhci port, card number) once its sound card is there."""
    where = "" if port is None else f" {port}"
    done = pi.run(f"python3 - {GATEWAY} {server.port} {busid}{where}", stdin=_ATTACH)
    taken, card = done.stdout.split()
    return int(taken), int(card)


def wait_gone(pi: Machine, card: int) -> None:
    """Until the guest's kernel has removed the card."""
    pi.run(f"for i in $(seq 300); do [ -e /proc/asound/card{card} ] || exit 0; sleep 0.1; done; exit 1")
