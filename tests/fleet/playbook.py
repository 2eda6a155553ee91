"""Run our playbooks the way an operator does, and read what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


@dataclass(frozen=True)
class Play:
    """One finished run: exit code, seconds, and Ansible's own report."""

    code: int
    seconds: float
    report: dict[str, Any]
    said: str

    def stats(self, host: str) -> dict[str, int]:
        """Of one host: ok, changed, unreachable, failures, skipped …"""
        stats: dict[str, int] = self.report["stats"][host]
        return stats

    def tasks(self, host: str) -> dict[str, dict[str, Any]]:
        """Results of one host, by `role : task`. A name that occurs twice keeps its last result."""
        return {
            task["task"]["name"]: task["hosts"][host]
            for play in self.report["plays"]
            for task in play["tasks"]
            if host in task["hosts"]
        }

    def changed(self, host: str) -> list[str]:
        return [name for name, result in self.tasks(host).items() if result.get("changed")]

    def failures(self, host: str) -> list[str]:
        return [
            f"{name}: {result.get('msg')}"
            for name, result in self.tasks(host).items()
            if result.get("failed") or result.get("unreachable")
        ]


def play(
    playbook: str,
    inventory: Path,
    *arguments: str,
    extra: Mapping[str, Any] | None = None,
    timeout: float = 3000,
) -> Play:
    """Run ansible/`playbook` from the repository's root; `extra` are `--extra-vars`."""
    command = [str(ANSIBLE), "-i", str(inventory), f"ansible/{playbook}", *arguments]
    if extra:
        command += ["--extra-vars", json.dumps(extra)]
    environment = {
        **os.environ,
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_NOCOLOR": "true",
    }
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    seconds = time.monotonic() - began
    start = done.stdout.find("{\n")
    report = json.loads(done.stdout[start:]) if start >= 0 else {"plays": [], "stats": {}}
    return Play(done.returncode, seconds, report, done.stdout[: max(0, start)] + done.stderr)
