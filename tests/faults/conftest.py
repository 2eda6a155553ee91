"""One virtual Pi that the playbook made an appliance of, its hub, and a tone for its microphone to hear."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.faults.appliance import Appliance
from tests.fleet import pis
from tests.fleet.conftest import first, place, variables, voice
from tests.fleet.hub import TOKEN, FleetHub
from tests.fleet.pis import Converged
from tests.virtual_pi.acoustics import tone
from tests.virtual_pi.sh04 import Sh04

__all__ = ["first", "place", "variables", "voice"]  # the fleet's fixtures, for the same cached disk

REPRESENTATIVES = ("usb-deauthorized", "alsa-syntax-error", "microphone-held", "container-device-rule")
"""What `make test-pi` runs of all this: of each family one."""

CREDENTIAL = "/run/credentials/pinna-agent.service/hub_token"
TELL = (
    "printf %s {token} >/etc/pinna/hub_token; "
    "sed -i -E -e 's#^url = .*#url = \"{url}\"#' -e 's#^token_file = .*#token_file = \"{credential}\"#' "
    "/etc/pinna/pinna.toml; systemctl restart --no-block pinna-agent"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever is first may have to wait for the base system and the first converge."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        if not any(f"[{cause}]" in item.name for cause in REPRESENTATIVES):
            item.add_marker(pytest.mark.full)
        item.add_marker(pytest.mark.timeout(5400))


class Hub:
    """A hub that can be stopped, and started again at the same place."""

    def __init__(self, place: FleetHub) -> None:
        self._place = place
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(self._place.running())

    def stop(self) -> None:
        self._running.close()


@pytest.fixture(scope="session")
def hub(place: FleetHub) -> Iterator[Hub]:
    hub = Hub(place)
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def appliance(first: Converged, place: FleetHub, hub: Hub) -> Iterator[Appliance]:
    with pis.booted({"kitchen": Sh04(source=tone(440.0))}, first.disk) as (pi,):
        pi.machine.run("systemctl is-system-running --wait", check=False, timeout=300)
        pi.machine.run(TELL.format(token=TOKEN, url=place.for_pis, credential=CREDENTIAL))
        yield Appliance(pi)
