"""Containers started the wrong way, each named; started as the cure says, each hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from tests.faults.appliance import Appliance
from tests.faults.bits import base_of_32_bits
from tests.faults.breaking import SHARE, holder
from tests.virtual_pi.container_base import container_base

RIGHT = {
    "devices": "-v /dev/snd:/dev/snd",
    "rule": "--device-cgroup-rule 'c 116:* rmw'",
    "group": "--group-add 29",
    "ipc": "--ipc host",
    "asound": "-v /etc/asound.conf:/etc/asound.conf:ro",
    "pinna": "-v /etc/alsa/conf.d/40-pinna.conf:/etc/alsa/conf.d/40-pinna.conf:ro",
}
LIBRARY = "/usr/lib/aarch64-linux-gnu/libasound.so.2.0.0"
IMAGE = "$(docker images --format '{{.Repository}}:{{.Tag}}' pinna-probe | head -1)"


@dataclass(frozen=True)
class Wrong:
    """Options in place of the right ones; `meanwhile` runs on the host first."""

    cause: str
    options: dict[str, str] = field(default_factory=dict)
    meanwhile: str = ""


WRONG = (
    Wrong("container-without-devices", {"devices": ""}),
    Wrong("container-device-rule", {"rule": ""}),
    Wrong("container-without-group", {"group": ""}),
    Wrong("ipc-namespaces-differ", {"ipc": ""}, holder("outside", SHARE)),
    Wrong("asound-conf-missing", {"asound": ""}),
    Wrong("alsa-conf-is-a-folder", {"asound": "-v /var/tmp/no-such-file:/etc/asound.conf"}),
    Wrong(
        "foreign-libasound",
        {"library": f"-v /var/tmp/host-libasound:{LIBRARY}:ro"},
        f"cp -L {LIBRARY} /var/tmp/host-libasound",
    ),
)


@pytest.fixture
def host(appliance: Appliance) -> Iterator[Appliance]:
    """The agent is stopped: an emulated processor has enough to do."""
    appliance.run("systemctl stop pinna-agent; systemctl start docker")
    yield appliance
    appliance.run(
        "docker rm -f box; systemctl stop outside; rm -rf /var/tmp/no-such-file /var/tmp/host-libasound",
        check=False,
    )


def start(host: Appliance, options: dict[str, str], image: str = IMAGE) -> None:
    words = " ".join(options.values())
    host.run("docker rm -f box", check=False)
    host.run(f"docker run -d --name box --network none {words} --entrypoint sleep {image} infinity")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.cause)
def test_a_container_started_the_wrong_way(host: Appliance, wrong: Wrong) -> None:
    if wrong.meanwhile:
        host.run(wrong.meanwhile)
    start(host, RIGHT | wrong.options)
    found = host.first("--container", "box")
    assert found.get("cause") == wrong.cause, found
    start(host, RIGHT)
    host.until_healed("--container", "box", agent=False)


@contextmanager
def another(host: Appliance, archive: Path) -> Iterator[str]:
    """An image of this root file system, in the Pi's Docker, while somebody records outside."""
    host.run(holder("outside", SHARE))
    host.pi.machine.put(archive, f"/var/tmp/{archive.name}")
    host.run(f"docker import /var/tmp/{archive.name} another:debian; rm /var/tmp/{archive.name}")
    try:
        yield "another:debian"
    finally:
        host.run("docker rm -f box; docker image rm another:debian", check=False)


@pytest.mark.parametrize("root", [partial(container_base, "bookworm"), base_of_32_bits], ids=["12", "armhf"])
def test_a_container_of_another_debian_hears(host: Appliance, root: Callable[[], Path]) -> None:
    """Debian 12's libasound, or 13's of 32 bits, shares memory with 13's of 64 bits outside."""
    with another(host, root()) as image:
        start(host, RIGHT, image)
        host.until_healed("--container", "box", agent=False)


def test_a_card_plugged_in_later(host: Appliance) -> None:
    host.unplug()
    start(host, RIGHT | {"devices": "--device /dev/snd"})
    host.plug()
    assert host.first("--container", "box")["cause"] == "container-old-devices"
    start(host, RIGHT)
    host.until_healed("--container", "box", agent=False)
    host.unplug()
    host.plug()
    host.until_healed("--container", "box", agent=False)


def test_a_container_that_is_not_there(host: Appliance) -> None:
    host.run("docker rm -f box", check=False)
    report = host.look("--container", "box")[-1]
    assert report["exit_code"] == 14
    assert "box" in report["error"]
