"""A hub on this machine, and two virtual Pis that the playbook made appliances of."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fleet import pis
from tests.fleet.pis import Converged, Pi
from tests.fleet.playbook import Play, play
from tests.support.programs import program
from tests.support.waiting import eventually
from tests.virtual_pi.acoustics import wav
from tests.virtual_pi.container_base import container_base
from tests.virtual_pi.machine import GATEWAY
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity

from pinna.demo import speech

TOKEN = "a-token-for-the-fleet"
DEAD = "attic ansible_host=127.0.0.1 ansible_port=1 ansible_user=root ansible_ssh_common_args='-F none'"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first may have to wait for the base system and the first converge; the rest get 15 minutes."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for index, item in enumerate(here):
        item.add_marker(pytest.mark.timeout(900 if index else 5400))


@dataclass(frozen=True)
class FleetHub:
    """A `pinna hub` that the Pis reach: its address for them and for us, and its token."""

    for_pis: str
    for_us: str
    token_file: Path

    def health(self) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.for_us}/health", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
            return body


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHub]:
    folder = tmp_path_factory.mktemp("hub")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    command = ["pinna", "hub", "listen", "--host", "0.0.0.0", "--port", "0", "--json"]
    with program([*command, "--token-file", str(token)], os.environ, folder, "hub") as running:

        def address() -> list[str]:
            assert running.process.poll() is None, running.said()
            return [line["address"] for line in running.events() if "address" in line]

        port = int(eventually(address, what="the hub listens")[0].rsplit(":", 1)[1])
        yield FleetHub(f"http://{GATEWAY}:{port}", f"http://127.0.0.1:{port}", token)


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who speaks, for the microphones."""
    at = tmp_path_factory.mktemp("voice") / "voice.wav"
    speech.speak(*speech.NEAR, at, pause_seconds=1.0)
    return at


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    """Of the first run: a hub that is not there. Each test run then tells its Pis the real one."""
    return {
        "pinna_hub_url": f"http://{GATEWAY}:8080",
        "docker_base_archive": str(container_base()),
        # An emulated processor is too slow for the echo canceller.
        "agent_settings": json.dumps({"echo": {"engine": "none"}}),
    }


@pytest.fixture(scope="session")
def first(voice: Path, variables: dict[str, str], pytestconfig: pytest.Config) -> Converged:
    """Its progress is shown, not captured: a person may wait for many minutes."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return pis.converged(Sh04(source=wav(voice)), variables)


@dataclass(frozen=True)
class Fleet:
    """Running appliances. `told` is the run that told them where the hub is, with a dead host among them."""

    pis: tuple[Pi, ...]
    inventory: Path
    hub: FleetHub
    told: Play
    restarted: set[str]

    def pi(self, name: str) -> Pi:
        return next(pi for pi in self.pis if pi.name == name)


def units(pi: Pi) -> dict[str, str]:
    """When each service that is active was last started, in microseconds of the Pi's clock."""
    shown = pi.machine.run(
        "systemctl show --type=service --property=Id,SubState,ActiveEnterTimestampMonotonic '*'"
    )
    found = (dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.stdout.split("\n\n"))
    return {
        unit["Id"]: unit["ActiveEnterTimestampMonotonic"] for unit in found if unit["SubState"] == "running"
    }


@pytest.fixture(scope="session")
def fleet(
    first: Converged,
    hub: FleetHub,
    voice: Path,
    variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    told = {**variables, "pinna_hub_url": hub.for_pis, "pinna_hub_token": TOKEN}
    microphones = {
        name: Sh04(Identity(serial=f"SH04-{name}"), source=wav(voice)) for name in ("hall", "kitchen")
    }
    with pis.booted(microphones, first.disk) as two:
        for pi in two:
            pi.machine.run("systemctl is-system-running --wait", check=False, timeout=300)
        before = units(two[0])
        run = play("site.yml", pis.inventory(folder / "with-dead.ini", two, told, DEAD))
        after = units(two[0])
        restarted = {name for name in before if after.get(name) != before[name]}
        yield Fleet(two, pis.inventory(folder / "inventory.ini", two, told), hub, run, restarted)
