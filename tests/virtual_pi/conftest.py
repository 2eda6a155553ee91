"""One base system and one booted machine for all these tests; each module starts from its snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.virtual_pi.base import Base, base
from tests.virtual_pi.boards import Virt
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.server import UsbipServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test may have to wait for the base system to be built; the rest get ten minutes."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for index, item in enumerate(here):
        item.add_marker(pytest.mark.timeout(600 if index else 3600))


@pytest.fixture(scope="session")
def base_system(pytestconfig: pytest.Config) -> Base:
    """Its progress is shown, not captured: a person may wait minutes for it to be built."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return base()


@pytest.fixture(scope="session")
def booted(base_system: Base) -> Iterator[Machine]:
    with Machine(base_system, Virt()) as machine:
        machine.start()
        machine.wait_ssh()
        machine.run("systemctl is-system-running --wait", check=False, timeout=300)
        machine.run("modprobe -a vhci-hcd snd-usb-audio")
        machine.snapshot()
        yield machine


@pytest.fixture(scope="module")
def pi(booted: Machine) -> Machine:
    """A booted Pi without a microphone, in the state it was in right after its boot."""
    booted.restore()
    return booted


@pytest.fixture
def server() -> Iterator[UsbipServer]:
    with UsbipServer() as running:
        yield running
