"""docker/compose.yaml on a Pi: the recorder and its archive in containers, beside the agent.

.venv/bin/pytest tests/fleet/test_compose.py

An emulated Pi would take an hour to fetch and unpack the wheels, so what the Dockerfile's first stage builds,
the release, is the appliance's own. All else is as docs/recorder.md says it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.fleet import pis
from tests.fleet.conftest import AGENT, unplugged
from tests.fleet.pis import Converged, Pi
from tests.fleet.playbook import ROOT
from tests.support.waiting import eventually
from tests.virtual_pi.acoustics import tone
from tests.virtual_pi.sh04 import Sh04

NAME = "studio"
FOLDER = "pinna/docker"  # in the home of root, where ssh begins
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
PATIENCE_SECONDS = 400
FETCH = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=60)
connection.request("GET", "{path}")
print(connection.getresponse().read().decode())
"""
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


def asked(pi: Pi, port: int, path: str) -> dict[str, Any]:
    """What answers on the Pi's loopback, which is open to nobody else; empty while nothing does."""
    said = pi.machine.run(
        "python3 -", stdin=FETCH.format(port=port, path=path), check=False, timeout=120
    ).stdout
    answer: dict[str, Any] = json.loads(said) if said else {}
    return answer


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

    def source(self) -> dict[str, Any]:
        """What the recorder says of its source; empty before it says anything."""
        found: dict[str, Any] = asked(self._pi, 8082, "/api/status").get("sources", {}).get(NAME, {})
        return found

    def recorded(self) -> int:
        return int(self.source().get("recorded_samples", 0))


@pytest.mark.full
def test_recorder_and_archive_run_in_containers_beside_the_agent(first: Converged) -> None:
    with pis.booted({NAME: Sh04(source=tone(440.0))}, first.disk, memory_mb=1024) as (pi,):
        pi.machine.run("systemctl is-system-running --wait", check=False, timeout=300)
        pi.machine.run(f"systemctl stop {AGENT}")  # an emulated processor has enough to do

        def captured() -> int:
            return int(asked(pi, 8081, "/health").get("audio", {}).get("frames_captured", 0))

        composed = Composed(pi)
        composed("up --detach --build", BUILD_SECONDS)
        eventually(composed.recorded, PATIENCE_SECONDS, what="it records")
        pi.machine.run(f"systemctl start --no-block {AGENT}")
        eventually(captured, PATIENCE_SECONDS, what="the agent hears")
        before, heard_before = composed.recorded(), captured()
        eventually(lambda: composed.recorded() > before, PATIENCE_SECONDS, what="the recorder goes on")
        eventually(lambda: captured() > heard_before, PATIENCE_SECONDS, what="the agent goes on")

        with unplugged(pi):
            eventually(
                lambda: composed.source().get("state") == "unplug", PATIENCE_SECONDS, what="it notices"
            )
        eventually(lambda: composed.source().get("state") == "recording", PATIENCE_SECONDS, what="it is back")
        again = composed.recorded()
        eventually(lambda: composed.recorded() > again, PATIENCE_SECONDS, what="it records again")

        newest = asked(pi, 8082, f"/api/files?source={NAME}")["files"][0]["path"]
        heard = asked(pi, 8082, f"/api/peaks?file={newest}")
        assert max(heard["high"]) > QUIET, "what it recorded is no silence"

        pi.machine.run(f"systemctl stop {AGENT}")
        composed("stop")
        done = pi.machine.run("docker inspect --format '{{.State.ExitCode}}' pinna-recorder").stdout.strip()
        assert done == "0", pi.machine.run("docker logs --tail 30 pinna-recorder 2>&1", check=False).stdout
        assert "shared_mic" in composed("run --rm recorder record --list-devices")
        (report,) = json.loads(composed(f"run --rm recorder archive verify {ARCHIVE} --json"))
        assert report["proven"], report["wrong"]
        assert report["samples"] >= again
        assert "unplug" in {gap["reason"] for gap in report["gaps"]}
        composed("down")
