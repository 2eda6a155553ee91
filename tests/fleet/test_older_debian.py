"""The release before: Debian 12 becomes an appliance like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet import pis
from tests.fleet.hub import TOKEN, FleetHub
from tests.fleet.playbook import play, verify
from tests.virtual_pi.acoustics import wav
from tests.virtual_pi.machine import GATEWAY
from tests.virtual_pi.sh04 import Sh04

SUITE = "bookworm"


@pytest.fixture(scope="module")
def inventory(
    voice: Path,
    place: FleetHub,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """Of one Pi with Debian 12, an appliance already, but of another hub."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    microphone = Sh04(source=wav(voice))
    with capture.global_and_fixture_disabled():
        elsewhere = pis.variables(f"http://{GATEWAY}:8080", SUITE)
        disk = pis.converged(microphone, elsewhere, SUITE).disk
    variables = {**elsewhere, "pinna_hub_url": place.for_pis, "pinna_hub_token": TOKEN}
    with pis.booted({"cellar": microphone}, disk, SUITE) as one:
        yield pis.inventory(tmp_path_factory.mktemp(SUITE) / "inventory.ini", one, variables)


@pytest.mark.timeout(7200)
def test_an_older_debian_is_told_of_its_hub_and_passes_the_target_tests(
    inventory: Path, hub: FleetHub, tmp_path: Path
) -> None:
    done = play("site.yml", inventory)
    assert done.code == 0, done.trouble()
    hub.wait_for("cellar")
    proof = verify(inventory, hub, tmp_path / "junit.xml")
    assert proof.code == 0, proof.said
