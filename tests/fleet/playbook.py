"""Run our playbooks the way an operator does, and read what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet.hub import FleetHub
from tests.virtual_pi.progress import say

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


@dataclass(frozen=True)
class Play:
    """One finished run: exit code, seconds, and Ansible's own report."""

    code: int
    seconds: float
    report: dict[str, Any]
    said: str

    @property
    def tasks(self) -> int:
        return sum(len(each["tasks"]) for each in self.report["plays"])

    def stats(self, host: str) -> dict[str, int]:
        """Of one host: ok, changed, unreachable, failures, skipped …"""
        stats: dict[str, int] = self.report["stats"][host]
        return stats

    def results(self, host: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """`role : task` and its result on one host, in order."""
        for play in self.report["plays"]:
            for task in play["tasks"]:
                if host in task["hosts"]:
                    yield task["task"]["name"], task["hosts"][host]

    def changed(self, host: str) -> list[str]:
        return [name for name, result in self.results(host) if result.get("changed")]

    def failures(self, host: str) -> list[str]:
        """`role : task: message`; of a loop, the messages of the items that failed."""
        found = []
        for name, result in self.results(host):
            if result.get("failed") or result.get("unreachable"):
                items = [item for item in result.get("results", ()) if item.get("failed")] or [result]
                found += [f"{name}: {item.get('msg')} {item.get('stderr', '')}".rstrip() for item in items]
        return found

    def trouble(self) -> str:
        """For a person, when a test fails."""
        return "\n".join(
            [self.said, *(line for host in self.report["stats"] for line in self.failures(host))]
        )


def command(
    playbook: str, inventory: Path, *arguments: str, extra: Mapping[str, Any] | None = None
) -> list[str]:
    """`extra` are `--extra-vars`."""
    line = [str(ANSIBLE), "-i", str(inventory), str(Path("ansible", playbook)), *arguments]
    return [*line, "--extra-vars", json.dumps(extra)] if extra else line


def play(
    playbook: str,
    inventory: Path,
    *arguments: str,
    extra: Mapping[str, Any] | None = None,
    timeout: float = 3000,
) -> Play:
    """Run ansible/`playbook`, or another one by its whole path, from the repository's root."""
    environment = {**_environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    began = time.monotonic()
    done = subprocess.run(
        command(playbook, inventory, *arguments, extra=extra),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    seconds = time.monotonic() - began
    start = done.stdout.find("{\n")
    report = json.loads(done.stdout[start:]) if start >= 0 else {"plays": [], "stats": {}}
    ended = Play(done.returncode, seconds, report, done.stdout[: max(0, start)] + done.stderr)
    name = " ".join([Path(playbook).name, *arguments])
    say(f"{name}: {seconds:.0f} s, {ended.tasks} tasks, {len(report['stats'])} hosts")
    return ended


@dataclass(frozen=True)
class Proof:
    """One finished run of tests/target: exit code, seconds, and what pytest said."""

    code: int
    seconds: float
    said: str


def verify(inventory: Path, hub: FleetHub, junit: Path, *arguments: str, timeout: float = 2400) -> Proof:
    """Run tests/target on all of an inventory, as an operator does; somebody speaks."""
    line = [sys.executable, "-m", "pytest", "tests/target", "-q", "--hosts=ansible://pinna", "--speech"]
    line += [f"--ansible-inventory={inventory}", f"--junitxml={junit}"]
    line += [f"--hub-url={hub.for_us}", f"--hub-token-file={hub.token_file}", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    began = time.monotonic()
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Proof(done.returncode, time.monotonic() - began, done.stdout + done.stderr)


def kill_at(task: str, playbook: str, inventory: Path, *arguments: str, extra: Mapping[str, Any]) -> None:
    """Start a run, and kill it when it says that `task` begins: all before it has happened, it has not."""
    with subprocess.Popen(
        command(playbook, inventory, *arguments, extra=extra),
        cwd=ROOT,
        env={**_environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            if line.startswith("TASK [") and task in line:
                os.killpg(running.pid, signal.SIGKILL)
                return
        raise AssertionError("".join(said))


def _environment() -> dict[str, str]:
    """An emulated Pi on a busy machine may take longer than Ansible's ten seconds to answer ssh."""
    return {
        **os.environ,
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_TIMEOUT": "60",
    }
