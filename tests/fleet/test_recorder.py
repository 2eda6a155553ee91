"""One microphone for the agent, a container and the recorder at once, unplugged again and again.

.venv/bin/pytest tests/fleet/test_recorder.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from tests.fleet.conftest import Fleet, FleetHub, unplugged
from tests.fleet.pis import Pi
from tests.fleet.playbook import play
from tests.support.waiting import eventually
from tests.virtual_pi.acoustics import tone

MINUTES = 10
NAME = "booth"
RATE = 48_000
ARCHIVE = "/var/lib/pinna/archive"
RECORDED = {
    "recorder_sources": {NAME: {"device": "shared_mic", "format": "wav", "rate": RATE}},
    "recorder_settings": {"split_minutes": 1, "reserve_mb": 50},
}
PATIENCE_SECONDS = 240  # of an emulated Pi, which finds its card, loads libraries and calls the hub in that


def recorder(pi: Pi) -> dict[str, Any]:
    """What it says of its source; empty before it says anything."""
    said = pi.machine.run("cat /run/pinna-recorder/status.json", check=False).stdout
    found: dict[str, Any] = json.loads(said)["sources"][NAME] if said else {}
    return found


@contextmanager
def container(pi: Pi) -> Iterator[Callable[[], None]]:
    """A running container of the probe's image; what is yielded has it hear the microphone."""
    compose = "docker-compose -f /opt/pinna/probe/compose.yaml"
    pi.machine.run(f"{compose} run --detach --rm --name ear --entrypoint sleep probe 2h", timeout=300)

    def hear() -> None:
        pi.machine.run("docker exec ear python3 /opt/probe/probe.py", timeout=400)

    try:
        yield hear
    finally:
        pi.machine.run("docker rm --force ear", timeout=120)


@pytest.mark.full
def test_all_hear_at_once_and_every_gap_has_its_line(
    appliances: Callable[..., AbstractContextManager[Fleet]], hub: FleetHub
) -> None:
    def frames() -> int:
        return int(hub.health()["devices"].get(NAME, {}).get("frames_received", 0))

    with appliances(NAME, memory_mb=1024) as fleet:
        assert fleet.told.failures(NAME) == []
        pi = fleet.pi(NAME)
        pi.microphone.source = tone(440.0)  # who speaks pauses, for as long as the probe listens
        pi.machine.run("systemctl stop pinna-agent.service")  # an emulated processor has enough to do
        done = play("site.yml", fleet.inventory, "--tags", "recorder", extra=RECORDED)
        assert done.code == 0, done.trouble()
        with container(pi) as hear:
            pi.machine.run("systemctl start --no-block pinna-agent.service")
            eventually(frames, PATIENCE_SECONDS, what="the hub hears")
            eventually(lambda: recorder(pi).get("recorded_samples"), PATIENCE_SECONDS, what="it records")
            began, unplugs = time.monotonic(), 0
            while time.monotonic() - began < 60 * MINUTES:
                streamed, recorded = frames(), recorder(pi)["recorded_samples"]
                hear()
                eventually(lambda so_far=streamed: frames() != so_far, PATIENCE_SECONDS, what="the hub hears")
                eventually(
                    lambda so_far=recorded: recorder(pi)["recorded_samples"] > so_far,
                    PATIENCE_SECONDS,
                    what="it goes on recording",
                )
                with unplugged(pi):
                    eventually(lambda: recorder(pi)["state"] == "unplug", PATIENCE_SECONDS, what="it notices")
                unplugs += 1
                eventually(lambda: recorder(pi)["state"] == "recording", PATIENCE_SECONDS, what="it is back")
        pi.machine.run("systemctl stop pinna-recorder.service", timeout=60)
        proof = pi.machine.run(f"pinna archive verify {ARCHIVE} --json", check=False, timeout=600)
        (report,) = json.loads(proof.stdout)
        assert report["proven"], report["wrong"]
        assert report["files"] >= MINUTES
        reasons = [gap["reason"] for gap in report["gaps"]]
        assert reasons.count("unplug") >= unplugs > 0
        assert set(reasons) <= {"unplug", "xrun", "unreported", "overload"}, "nothing else has happened to it"
        assert report["samples"] + report["lost"] >= 60 * MINUTES * RATE
