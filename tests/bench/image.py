"""The image: how large it is, and how long after power-on an emulated Pi from it is heard, against its ssh.

The build itself tells its times; it is taken from the cache here, or made.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from image.__main__ import assemble, source_date_epoch
from image.appliance import appliance
from image.boards import BOARDS
from image.debian import base
from image.tools import tools
from image.wishes import Wishes
from tests.fleet.hub import FleetHub
from tests.fleet.pis import Pi
from tests.image.card import card, flashed, wait_until_heard
from tests.support.waiting import eventually
from tests.target.hub import frames
from tests.virtual_pi.acoustics import tone
from tests.virtual_pi.boards import Virt
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

ROUNDS = 3


def run(quick: bool) -> list[dict[str, Any]]:
    """Starts from a settled card with the microphone plugged in; medians of `ROUNDS`, or one if `quick`."""
    with tempfile.TemporaryDirectory() as name:
        folder, epoch = Path(name), source_date_epoch()
        debian = base(docker=True, fresh=False)
        root = appliance(debian, docker=True, settings=None, epoch=epoch)
        made = assemble(folder / "pinna.img", root, list(BOARDS.values()), Wishes(), tools(), epoch)
        (folder / "card").mkdir()
        place = FleetHub.somewhere(folder)
        kernel, disk, words = card(flashed(made, folder / "card", place), root, folder)
        rounds = []
        with (
            place.running(),
            UsbipServer() as server,
            Machine(kernel, Virt(memory_mb=1024), disk=disk, kernel_arguments=words) as machine,
        ):
            machine.start()
            machine.wait_ssh(900)
            machine.run("systemctl is-system-running --wait", check=False, timeout=900)
            pi = Pi(machine.run("hostname").stdout.strip(), machine, server, Sh04(source=tone(440.0)))
            pi.plug()
            wait_until_heard(pi, place)
            machine.run("sync")
            for _ in range(1 if quick else ROUNDS):
                machine.power_cut()
                rounds.append(_start(machine, place, pi.name))
        packed = folder / "pinna.img.xz"
        with packed.open("wb") as out:
            subprocess.run(["xz", "-6", "--threads=0", "--stdout", str(made.path)], stdout=out, check=True)
        ssh, heard = (statistics.median(times) for times in zip(*rounds, strict=True))
        return [
            {"what": "compressed", "MB": round(packed.stat().st_size / 1e6)},
            {"what": "on the card", "MB": round(made.layout.size / 1e6)},
            {"what": "power-on to ssh", "s": round(ssh)},
            {"what": "power-on to first frame", "s": round(heard), "times ssh": round(heard / ssh, 2)},
        ]


def _start(machine: Machine, place: FleetHub, device: str) -> tuple[float, float]:
    """Seconds from power-on until ssh lets in, and until the hub has a frame of this start."""
    before = frames(place.health(), device)
    began = time.monotonic()
    machine.start()
    machine.wait_ssh(900)
    ssh = time.monotonic() - began
    # Counted anew with each connection; the count of the one before stands still.
    eventually(lambda: frames(place.health(), device) not in (0, before), 600, what="a frame")
    return ssh, time.monotonic() - began
