"""A hub on this machine, and two virtual Pis that the playbook made appliances of."""

from __future__ import annotations

import json
import os
import socket
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
    """Where a `pinna hub` is, or will be, for the Pis and for us, and its token."""

    port: int
    token_file: Path

    @property
    def for_pis(self) -> str:
        return f"http://{GATEWAY}:{self.port}"

    @property
    def for_us(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.for_us}/health", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
            return body


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> FleetHub:
    """Where the hub will be. While it is not there, emulated processors have time for Ansible."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = tmp_path_factory.mktemp("hub") / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    return FleetHub(port, token)


@pytest.fixture(scope="session")
def hub(place: FleetHub) -> Iterator[FleetHub]:
    """A running hub, from the first test that asks for it on."""
    command = ["pinna", "hub", "listen", "--host", "0.0.0.0", "--port", str(place.port), "--json"]
    folder = place.token_file.parent
    with program([*command, "--token-file", str(place.token_file)], os.environ, folder, "hub") as running:

        def listens() -> bool:
            assert running.process.poll() is None, running.said()
            return any("address" in line for line in running.events())

        eventually(listens, what="the hub listens")
        yield place


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
        # An emulated processor is too slow for the echo canceller, and for a hundred wake-ups in a second.
        "agent_settings": json.dumps(
            {"echo": {"engine": "none"}, "audio": {"latency_ms": 200, "output": "none"}}
        ),
        "audio_period_ms": "40",
        "audio_buffer_ms": "640",
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
    told: Play
    restarted: set[str]

    def pi(self, name: str) -> Pi:
        return next(pi for pi in self.pis if pi.name == name)


def units(pi: Pi) -> dict[str, str]:
    """When each service that runs was last started, in microseconds; sessions come and go."""
    shown = pi.machine.run(
        "systemctl show --type=service --property=Id,SubState,ActiveEnterTimestampMonotonic '*'"
    )
    found = (dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.stdout.split("\n\n"))
    return {
        unit["Id"]: unit["ActiveEnterTimestampMonotonic"]
        for unit in found
        if unit["SubState"] == "running" and not unit["Id"].startswith("user@")
    }


@pytest.fixture(scope="session")
def fleet(
    first: Converged,
    place: FleetHub,
    voice: Path,
    variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    told = {**variables, "pinna_hub_url": place.for_pis, "pinna_hub_token": TOKEN}
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
        yield Fleet(two, pis.inventory(folder / "inventory.ini", two, told), run, restarted)
