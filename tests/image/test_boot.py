"""The very image that is flashed, as the card of an emulated machine: it comes up and streams.

The kernel, the initramfs and the command line are those of its own boot partition. What the Pi's own firmware
does with config.txt before the kernel starts is not emulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from image.filesystems import Image
from tests.fleet.hub import FleetHub
from tests.fleet.pis import Pi, inventory
from tests.fleet.playbook import verify
from tests.image.card import card, flashed, plug, wait_until_heard
from tests.virtual_pi.boards import Virt
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.server import UsbipServer

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def pi(
    image: Image, root: Path, hub: FleetHub, voice: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pi]:
    """Flashed, switched on for the first time, a microphone plugged in; nothing else has been done to it."""
    on_card = flashed(image, tmp_path_factory.mktemp("flashed"), hub)
    base, disk, words = card(on_card, root, tmp_path_factory.mktemp("card"))
    with (
        UsbipServer() as server,
        Machine(base, Virt(memory_mb=1024), disk=disk, kernel_arguments=words) as machine,
    ):
        machine.start()
        machine.wait_ssh(900)
        machine.run("systemctl is-system-running --wait", check=False, timeout=900)
        yield plug(machine, server, voice)


def test_nothing_failed(pi: Pi) -> None:
    assert pi.machine.run("systemctl --failed --no-legend --plain").stdout == ""
    assert "ordering cycle" not in pi.machine.run("journalctl --boot --no-pager _PID=1", timeout=120).stdout


def test_the_root_was_checked_before_it_was_mounted(pi: Pi) -> None:
    assert "PINNA: clean" in pi.machine.run("cat /run/initramfs/fsck.log").stdout


def test_the_root_has_taken_the_whole_card(pi: Pi) -> None:
    sectors = int(pi.machine.run("cat /sys/class/block/vda/vda2/size").stdout)
    assert sectors * 512 > (4 << 30) - (560 << 20)
    size = int(pi.machine.run("df --output=size -B1 / | tail -n 1").stdout)
    assert size > sectors * 512 * 9 // 10


def test_it_has_made_an_identity_of_its_own(pi: Pi) -> None:
    assert len(pi.machine.run("cat /etc/machine-id").stdout.strip()) == 32
    assert "ssh_host_ed25519_key" in pi.machine.run("ls /etc/ssh").stdout
    assert pi.name.startswith("pinna-")
    assert pi.name == pi.machine.run("cat /etc/hostname").stdout.strip()
    assert pi.name in pi.machine.run("cat /boot/firmware/pinna-status.txt").stdout


def test_cloud_init_has_had_its_turn(pi: Pi) -> None:
    pi.machine.run("test -e /etc/cloud/cloud-init.disabled")


def test_the_hub_hears_it_with_no_hand_on_it(pi: Pi, hub: FleetHub) -> None:
    wait_until_heard(pi, hub)


def test_the_target_tests_pass(pi: Pi, hub: FleetHub, tmp_path: Path) -> None:
    """As an operator runs them; root's key is the virtual machine's, which no image has."""
    hub.wait_for(pi.name)
    proof = verify(inventory(tmp_path / "inventory.ini", [pi], {}), hub, tmp_path / "junit.xml")
    assert proof.code == 0, proof.said


def test_settings_that_are_wrong_are_told_and_change_nothing(pi: Pi) -> None:
    before = pi.machine.run("cat /etc/pinna/pinna.toml").stdout
    pi.machine.run(
        "printf '[hub]\\nulr = 1\\n' >>/boot/firmware/pinna.toml; systemctl restart pinna-settings"
    )
    assert "Wrong: pinna.toml" in pi.machine.run("cat /boot/firmware/pinna-status.txt").stdout
    assert pi.machine.run("cat /etc/pinna/pinna.toml").stdout == before
