"""Break a healthy virtual Pi for real, see that cause named first, apply the printed cure, see it healed.

Causes that no test here has are judged from snapshots, in tests/unit/doctor: breaking.FROM_SNAPSHOTS has why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.appliance import Appliance
from tests.faults.breaking import FAULTS, KEEP_SETTINGS, RESTART, SETTINGS_BACK, Fault
from tests.faults.conftest import Hub
from tests.fleet.hub import FleetHub
from tests.support import tls
from tests.virtual_pi.acoustics import silence, tone
from tests.virtual_pi.machine import GATEWAY
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity


@contextmanager
def agent(appliance: Appliance, *, runs: bool) -> Iterator[None]:
    appliance.run("systemctl enable -q pinna-agent")
    appliance.run("systemctl start --no-block pinna-agent" if runs else "systemctl stop pinna-agent")
    if runs:
        appliance.until_healed(agent=True)
    yield
    appliance.run("systemctl reset-failed", check=False)


def test_it_is_healthy_before_anything_breaks(appliance: Appliance) -> None:
    with agent(appliance, runs=True):
        pass  # it waits until all is seen to be well


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.cause)
def test_a_fault_is_named_and_its_cure_heals(appliance: Appliance, fault: Fault) -> None:
    options = ["--user", fault.user] if fault.user else []
    with agent(appliance, runs=fault.agent):
        try:
            appliance.run(fault.breaks)
            found = appliance.first(*options)
            assert found.get("cause") == fault.cause, found
            appliance.apply(found)
            if fault.by_hand:
                appliance.run(fault.by_hand)
            appliance.until_healed(*options, agent=fault.agent)
        except BaseException:
            appliance.run(fault.by_hand, check=False)  # what comes next shall not suffer from it
            raise
        finally:
            if fault.restores:
                appliance.run(fault.restores, check=False)


def test_a_pulled_plug(appliance: Appliance) -> None:
    with agent(appliance, runs=False):
        appliance.unplug()
        assert appliance.first()["cause"] == "no-usb-microphone"
        appliance.plug()
        appliance.until_healed(agent=False)


def test_a_cable_that_is_broken(appliance: Appliance) -> None:
    """The kernel sees a device come, and gets no answer from it."""
    with agent(appliance, runs=False):
        appliance.unplug()
        appliance.pi.microphone.illegible = True
        busid = appliance.pi.server.plug(appliance.pi.microphone)
        try:
            appliance.run(f"systemd-run -q {appliance.attaching(busid)}")
            appliance.run("until dmesg | grep -q 'unable to enumerate'; do sleep 0.5; done")
            found = appliance.first()
        finally:
            appliance.pi.server.unplug(busid)
            appliance.pi.microphone.illegible = False
        assert found["cause"] == "usb-unstable"
        appliance.plugs += 1
        appliance.plug()
        appliance.until_healed(agent=False)


def test_a_device_that_only_plays(appliance: Appliance) -> None:
    with agent(appliance, runs=False):
        appliance.unplug()
        microphone = appliance.pi.microphone
        appliance.pi.microphone = Sh04(Identity(microphone_channels=0))
        try:
            appliance.plug()
            found = appliance.first()
        finally:
            appliance.unplug()
            appliance.pi.microphone = microphone
            appliance.plug()
        assert found["cause"] == "card-cannot-record"
        appliance.until_healed(agent=False)


def test_a_microphone_that_delivers_zeros(appliance: Appliance) -> None:
    with agent(appliance, runs=False):
        appliance.pi.microphone.source = silence
        try:
            found = appliance.first()
        finally:
            appliance.pi.microphone.source = tone(440.0)
        assert found["cause"] == "digital-silence"
        appliance.until_healed(agent=False)


def test_a_microphone_that_stalls(appliance: Appliance) -> None:
    with agent(appliance, runs=False):
        appliance.pi.microphone.stalled = True
        try:
            found = appliance.first()
        finally:
            appliance.pi.microphone.stalled = False  # what plugging it in again does to its firmware
        assert found["cause"] == "microphone-stalled"
        appliance.apply(found)
        appliance.until_healed(agent=False)


def test_a_hub_that_has_ended(appliance: Appliance, hub: Hub) -> None:
    with agent(appliance, runs=True):
        hub.stop()
        try:
            appliance.run("systemctl restart pinna-agent")
            assert appliance.first()["cause"] == "hub-not-running"
        finally:
            hub.start()
        appliance.until_healed(agent=True)


def test_a_hub_whose_certificate_nobody_knows(appliance: Appliance, place: FleetHub, tmp_path: Path) -> None:
    certificate = tls.self_signed(tmp_path, GATEWAY)
    with agent(appliance, runs=True), tls.relay(place.port, certificate) as port:
        appliance.run(KEEP_SETTINGS)
        appliance.run(
            f"sed -i 's#^url = .*#url = \"https://{GATEWAY}:{port}\"#' /etc/pinna/pinna.toml; {RESTART}"
        )
        try:
            found = appliance.first()
            assert found["cause"] == "hub-certificate"
            appliance.pi.machine.put(Path(f"{certificate}.crt"), "/usr/local/share/ca-certificates/fault.crt")
            appliance.apply(found)
            appliance.run(RESTART)
            appliance.until_healed(agent=True)
        finally:
            appliance.run("rm -f /usr/local/share/ca-certificates/fault.crt; update-ca-certificates --fresh")
            appliance.run(f"{SETTINGS_BACK}; {RESTART}")


def test_a_hub_that_wants_another_token(appliance: Appliance) -> None:
    with agent(appliance, runs=True):
        appliance.run("cp -p /etc/pinna/hub_token /var/tmp; printf wrong >/etc/pinna/hub_token")
        appliance.run("systemctl restart pinna-agent")
        try:
            found = appliance.first()
        finally:
            appliance.run("cp -p /var/tmp/hub_token /etc/pinna; systemctl restart --no-block pinna-agent")
        assert found["cause"] == "hub-refuses"
        appliance.until_healed(agent=True)


def test_a_kernel_that_was_replaced_beneath_the_running_one(appliance: Appliance) -> None:
    """The folder's other name stands for a newer kernel's; the reboot is into the one that is there.

    The last of these tests: what was opened before is not there after it.
    """
    with agent(appliance, runs=False):
        appliance.run("rmmod snd_usb_audio; mv /lib/modules/$(uname -r) /lib/modules/newer")
        try:
            found = appliance.first()
        finally:
            appliance.run("mv /lib/modules/newer /lib/modules/$(uname -r)")
        assert found["cause"] == "kernel-replaced"
        assert found["commands"] == ["reboot"]
        appliance.run("systemctl disable -q pinna-agent")
        appliance.pi.machine.reboot(timeout=900)
        appliance.until_healed(agent=False)
