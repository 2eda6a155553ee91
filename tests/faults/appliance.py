"""A virtual Pi that works, and the doctor, who looks at it the operator's way: `pinna doctor --host`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.fleet.pis import Pi
from tests.virtual_pi.machine import GATEWAY

LOOK_SECONDS: Final = 60  # an emulated processor needs ten
PATIENCE_SECONDS: Final = 240  # until the agent streams again after something was healed


@dataclass
class Appliance:
    pi: Pi
    plugs: int = 1  # how often the microphone was plugged in; its bus id counts

    def run(self, command: str, *, check: bool = True) -> str:
        return self.pi.machine.run(command, check=check, timeout=900).stdout

    def look(self, *options: str) -> list[dict[str, Any]]:
        """What `pinna doctor --json` says of the Pi, and of a container if the options name one."""
        words = self.pi.machine.ssh_command()
        ssh = [
            *words[1:-1],
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={self.pi.machine.folder}/doctor",
            "-o",
            "ControlPersist=600",
        ]
        command = [sys.executable, "-m", "pinna", "doctor", "--json", f"--seconds={LOOK_SECONDS}", *options]
        command += ["--host", words[-1], "--ssh", shlex.join(ssh)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode in (0, 13, 14), done.stderr
        reports: list[dict[str, Any]] = json.loads(done.stdout)
        return reports

    def first(self, *options: str) -> dict[str, Any]:
        """The first broken link where it was looked last (in the container, if one is named); {}: none.

        While nothing is broken, but something not to be seen yet (of an agent that starts), it looks again.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            report = self.look(*options)[-1]
            assert not report["error"], report["error"]
            found: dict[str, Any]
            for found in report["findings"]:
                if found["status"] == "broken":
                    return found
            unseen = [one["title"] for one in report["findings"] if one["status"] == "not seen"]
            if not unseen:
                return {}
            assert time.monotonic() < deadline, unseen

    def until_healed(self, *options: str, agent: bool) -> None:
        """Until the whole chain is seen and nothing is wrong; without `agent`, up to the agent."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            findings = [one for report in self.look(*options) for one in report["findings"]]
            unwell = [
                {key: one[key] for key in ("link", "status", "cause", "title", "evidence")}
                for one in findings
                if one["status"] not in ("ok", "not applicable")
                and (agent or one["link"] not in ("agent", "hub"))
            ]
            if findings and not unwell:
                return
            assert time.monotonic() < deadline, unwell

    def apply(self, finding: dict[str, Any]) -> None:
        """The printed cure, literally: every command, as root."""
        for command in finding["commands"]:
            self.run(command)

    def unplug(self) -> None:
        """Pull the plug out of our server; returns when the card is gone."""
        self.pi.server.unplug(f"1-{self.plugs}")
        self.run("while [ -e /proc/asound/card0 ]; do sleep 0.1; done")

    def attaching(self, busid: str) -> str:
        """The command by which the Pi takes a device of our server's."""
        server = self.pi.server
        return f"python3 /var/lib/virtual-microphone {GATEWAY} {server.port} {busid}"

    def plug(self) -> None:
        self.pi.plug()
        self.plugs += 1
