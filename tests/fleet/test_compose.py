"""docker/compose.yaml on a Pi: the recorder and its archive in containers, beside the agent.

.venv/bin/pytest tests/fleet/test_compose.py

An emulated Pi would take an hour to fetch and unpack the wheels, so what the Dockerfile's first stage builds,
the release, is the appliance's own. All else is as docs/recorder.md says it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from tests.fleet.conftest import AGENT, Fleet, FleetHub, unplugged
from tests.fleet.pis import Pi
from tests.fleet.playbook import ROOT
from tests.support.waiting import eventually
from tests.virtual_pi.acoustics import tone

NAME = "studio"
FOLDER = "/root/pinna/docker"
ARCHIVE = "/var/lib/pinna/archive"
SETTINGS = """
[general]
directory = "/var/lib/pinna/archive"
reserve_mb = 50

[sources.studio]
device = "shared_mic"
format = "wav"
"""
BUILD_SECONDS = 1800
PATIENCE_SECONDS = 240
QUIET = 300  # of 32768

PUT_TOGETHER = f"""
mkdir -p {FOLDER} && cd {FOLDER}/.. && mkdir opt
cp -a --link /opt/pinna/wheels /opt/pinna/releases /opt/pinna/current opt/
"""


def without_its_first_stage(dockerfile: str) -> str:
    argument, _, second = re.split(r"(?m)^(?=FROM )", dockerfile)
    text, copies = re.subn("COPY --from=build /opt/pinna ", "COPY opt ", second)
    assert copies == 1
    return argument + text


class Composed:
    """The two containers, by what docs/recorder.md tells an operator to do."""

    def __init__(self, pi: Pi) -> None:
        self._pi = pi
        run = pi.machine.run
        run(PUT_TOGETHER)
        for name, text in {
            "compose.yaml": (ROOT / "docker/compose.yaml").read_text(),
            "Dockerfile": without_its_first_stage((ROOT / "docker/Dockerfile").read_text()),
            "recorder.toml": SETTINGS,
        }.items():
            run(f"cat >{FOLDER}/{name}", stdin=text)
        run(f"chown 10001 {FOLDER}/recorder.toml && chmod 600 {FOLDER}/recorder.toml")
        base = run("docker images --format '{{.Repository}}:{{.Tag}}' | grep ^pinna-base:").stdout.strip()
        run(f"echo PINNA_BASE={base} >{FOLDER}/.env")

    def __call__(self, command: str, seconds: float = PATIENCE_SECONDS) -> str:
        return self._pi.machine.run(f"cd {FOLDER} && docker-compose {command}", timeout=seconds).stdout

    def ask(self, path: str) -> Any:
        """The archive's answer, from the Pi itself: it is open to nobody else. None while there is none."""
        fetch = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8082{path}').read().decode())"
        said = self._pi.machine.run(f'python3 -c "{fetch}"', check=False).stdout
        return json.loads(said) if said else None

    def source(self) -> dict[str, Any]:
        """What the recorder says of its source; empty before it says anything."""
        found: dict[str, Any] = ((self.ask("/api/status") or {}).get("sources") or {}).get(NAME, {})
        return found

    def recorded(self) -> int:
        return int(self.source().get("recorded_samples", 0))


@pytest.mark.full
def test_recorder_and_archive_run_in_containers_beside_the_agent(
    appliances: Callable[..., AbstractContextManager[Fleet]], hub: FleetHub
) -> None:
    def frames() -> int:
        return int(hub.health()["devices"].get(NAME, {}).get("frames_received", 0))

    with appliances(NAME, memory_mb=1024) as fleet:
        pi = fleet.pi(NAME)
        pi.microphone.source = tone(440.0)
        pi.machine.run(f"systemctl stop {AGENT}")  # an emulated processor has enough to do
        composed = Composed(pi)
        composed("up --detach --build", BUILD_SECONDS)
        eventually(composed.recorded, PATIENCE_SECONDS, what="it records")
        pi.machine.run(f"systemctl start --no-block {AGENT}")
        eventually(frames, PATIENCE_SECONDS, what="the hub hears")
        before = composed.recorded()
        eventually(lambda: composed.recorded() > before, PATIENCE_SECONDS, what="both at once")

        with unplugged(pi):
            eventually(
                lambda: composed.source().get("state") == "unplug", PATIENCE_SECONDS, what="it notices"
            )
        eventually(lambda: composed.source().get("state") == "recording", PATIENCE_SECONDS, what="it is back")
        again = composed.recorded()
        eventually(lambda: composed.recorded() > again, PATIENCE_SECONDS, what="it records again")

        assert "shared_mic" in composed("run --rm recorder record --list-devices")
        newest = composed.ask(f"/api/files?source={NAME}")["files"][0]["path"]
        heard = composed.ask(f"/api/peaks?file={newest}")
        assert max(heard["high"]) > QUIET, "what it recorded is no silence"

        composed("stop")
        done = pi.machine.run("docker inspect --format '{{.State.ExitCode}}' pinna-recorder").stdout.strip()
        assert done == "0", pi.machine.run("docker logs --tail 30 pinna-recorder 2>&1", check=False).stdout
        (report,) = json.loads(composed(f"run --rm recorder archive verify {ARCHIVE} --json"))
        assert report["proven"], report["wrong"]
        assert report["samples"] >= again
        assert "unplug" in {gap["reason"] for gap in report["gaps"]}
        composed("down")
