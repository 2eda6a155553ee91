"""The image on the emulated Raspberry Pi 3B, and after ten power cuts."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from image.filesystems import Image
from tests.fleet.hub import FleetHub
from tests.image.card import card, flashed, plug, wait_until_heard
from tests.virtual_pi.boards import Raspi3b, Virt
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.server import UsbipServer

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]


def test_on_a_raspberry_pi_3b_it_comes_up_and_streams(
    image: Image, root: Path, hub: FleetHub, voice: Path, tmp_path: Path
) -> None:
    base, disk, words = card(flashed(image, tmp_path, hub), root, tmp_path)
    # QEMU has the watchdog's registers, not its clock: it resets the board when systemd starts the watchdog.
    words += " systemd.watchdog_sec=0"
    with (
        UsbipServer() as server,
        Machine(base, Raspi3b(), disk=disk, kernel_arguments=words) as machine,
    ):
        machine.start()
        machine.wait_ssh(1800)
        machine.run("systemctl is-system-running --wait", check=False, timeout=900)
        assert machine.run("tr -d '\\0' < /proc/device-tree/model").stdout.startswith(
            "Raspberry Pi 3 Model B"
        )
        assert machine.run("systemctl --failed --no-legend --plain").stdout == ""
        assert machine.run("findmnt -n -o SOURCE /").stdout.strip() == "/dev/mmcblk0p2"
        wait_until_heard(plug(machine, server, voice), hub)


def test_ten_power_cuts_leave_a_system_that_comes_up_and_streams(
    image: Image, root: Path, hub: FleetHub, voice: Path, tmp_path: Path
) -> None:
    """At moments of the first start, of later ones, and of running, which the seed decides."""
    chance = random.Random(20261121)
    base, disk, words = card(flashed(image, tmp_path, hub), root, tmp_path)
    with (
        UsbipServer() as server,
        Machine(base, Virt(memory_mb=1024), disk=disk, kernel_arguments=words) as machine,
    ):
        for _ in range(10):
            machine.start()
            time.sleep(chance.uniform(5, 90))  # a moment is what is wanted; ssh answers after about a minute
            machine.power_cut()
        machine.start()
        machine.wait_ssh(900)
        machine.run("systemctl is-system-running --wait", check=False, timeout=900)
        assert machine.run("systemctl --failed --no-legend --plain").stdout == ""
        wait_until_heard(plug(machine, server, voice), hub)
