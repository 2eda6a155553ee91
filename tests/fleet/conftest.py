"""A hub on this machine, and virtual Pis that the playbook made appliances of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fleet import pis
from tests.fleet.hub import TOKEN, FleetHub
from tests.fleet.pis import Converged, Pi
from tests.fleet.playbook import Play, play
from tests.support.waiting import eventually
from tests.virtual_pi.acoustics import wav
from tests.virtual_pi.machine import GATEWAY
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity

AGENT = "pinna-agent.service"
DEAD = "attic ansible_host=127.0.0.1 ansible_port=1 ansible_user=root ansible_ssh_common_args='-F none'"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first may have to wait for the base system and the first converge, others for two Pis to boot."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for index, item in enumerate(here):
        item.add_marker(pytest.mark.timeout(2700 if index else 7200))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> FleetHub:
    """Where the hub will be. While it is not there, emulated processors have time for Ansible."""
    return FleetHub.somewhere(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def hub(place: FleetHub) -> Iterator[FleetHub]:
    """A running hub, from the first test that asks for it on."""
    with place.running():
        yield place


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who speaks, for the microphones."""
    return pis.voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    """Of the first run: a hub that is not there. Each test run then tells its Pis the real one."""
    return pis.variables(f"http://{GATEWAY}:8080")


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


def _services(pi: Pi) -> list[dict[str, str]]:
    """What systemd says of each service that runs; sessions come and go."""
    shown = pi.machine.run(
        "systemctl show --type=service --property=Id,SubState,NRestarts,ActiveEnterTimestampMonotonic '*'"
    )
    found = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.stdout.split("\n\n")]
    return [unit for unit in found if unit["SubState"] == "running" and not unit["Id"].startswith("user@")]


def units(pi: Pi) -> dict[str, str]:
    """When each service that runs was last started, in microseconds."""
    return {unit["Id"]: unit["ActiveEnterTimestampMonotonic"] for unit in _services(pi)}


def own_restarts(pi: Pi) -> dict[str, int]:
    """How often systemd itself started each service anew: a busy host starves watchdogs, even journald's."""
    return {unit["Id"]: int(unit["NRestarts"]) for unit in _services(pi)}


@contextmanager
def unplugged(pi: Pi) -> Iterator[None]:
    """As tests/target does it: USB lets go of the device."""
    card = "/sys/class/sound/$(readlink /proc/asound/mic)/device"
    switch = pi.machine.run(f"readlink -f {card}/../authorized").stdout.strip()
    pi.machine.run(f"echo 0 >{switch}")
    try:
        yield
    finally:
        pi.machine.run(f"echo 1 >{switch}")


@pytest.fixture(scope="session")
def appliances(
    first: Converged,
    place: FleetHub,
    voice: Path,
    variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., AbstractContextManager[Fleet]]:
    """A function: running appliances of these names, which have just been told where the hub is."""

    @contextmanager
    def running(*names: str, memory_mb: int = 512) -> Iterator[Fleet]:
        folder = tmp_path_factory.mktemp("fleet")
        told = {**variables, "pinna_hub_url": place.for_pis, "pinna_hub_token": TOKEN}
        microphones = {name: Sh04(Identity(serial=f"SH04-{name}"), source=wav(voice)) for name in names}
        with pis.booted(microphones, first.disk, memory_mb=memory_mb) as booted:
            for pi in booted:
                eventually(lambda pi=pi: AGENT in units(pi), 300, what=f"{pi.name}'s agent runs")
                pi.machine.run("systemctl is-system-running --wait", check=False, timeout=300)
            before, anew = units(booted[0]), own_restarts(booted[0])
            run = play("site.yml", pis.inventory(folder / "with-dead.ini", booted, told, DEAD))
            after, starved = units(booted[0]), own_restarts(booted[0])
            restarted = {
                name
                for name in before
                if after.get(name) != before[name] and (name == AGENT or starved.get(name, 0) <= anew[name])
            }
            yield Fleet(booted, pis.inventory(folder / "inventory.ini", booted, told), run, restarted)

    return running
