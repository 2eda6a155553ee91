"""What role hardening writes: who may log in, and what may come in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.local_play import ROLES, local_play

LOOK = {"ports": [22, 2222], "key": True}


def render(folder: Path, variables: dict[str, Any], look: dict[str, Any]) -> dict[str, str]:
    """Both files, for a device that `look` describes."""
    role = ROLES / "hardening"
    variables = {**yaml.safe_load((role / "vars" / "main.yml").read_text()), **variables}
    (task,) = (
        task
        for task in yaml.safe_load((role / "tasks" / "configure.yml").read_text())
        if "pinna_files" in task
    )
    wanted = {"sshd": "sshd.conf.j2", "nft": "pinna.nft.j2"}
    steps = [
        {
            "name": name,
            "vars": task["vars"],
            "ansible.builtin.template": {
                "src": str(role / "templates" / template),
                "dest": str(folder / name),
                "mode": "0600",
            },
        }
        for name, template in wanted.items()
    ]
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    found = {"__hardening_look": {"stdout": json.dumps(look)}}
    done = local_play(
        folder, {"name": "Render", "tasks": steps}, variables={**defaults, **found, **variables}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (folder / name).read_text() for name in wanted}


@pytest.mark.parametrize(
    ("variables", "look", "refused"),
    [
        ({}, LOOK, True),
        ({}, {**LOOK, "key": False}, False),
        ({"ansible_password": "x"}, LOOK, False),
        ({"hardening_ssh_keys_only": "never"}, LOOK, False),
        ({"hardening_ssh_keys_only": "always"}, {**LOOK, "key": False}, True),
    ],
)
def test_passwords_are_refused_only_when_nobody_is_locked_out(
    tmp_path: Path, variables: dict[str, Any], look: dict[str, Any], refused: bool
) -> None:
    lines = render(tmp_path, variables, look)["sshd"].splitlines()
    assert ("PasswordAuthentication no" in lines) == refused


def test_what_may_come_in(tmp_path: Path) -> None:
    rules = render(tmp_path, {"hardening_tcp_ports": [443], "hardening_udp_ports": [5004]}, LOOK)["nft"]
    assert "tcp dport { 22, 443, 2222 } accept" in rules
    assert "udp dport { 5004, 5353 } accept" in rules
    assert "flush ruleset" not in rules  # Docker's rules are in there too


@pytest.mark.parametrize("holds", [True, False])
def test_a_key_is_found_where_sshd_would_find_it(tmp_path: Path, holds: bool) -> None:
    """On this machine, whose sshd, if there is one, is not asked: its answer is a program of the test's."""
    keys = tmp_path / "keys"
    keys.write_text("# none yet\n" + ("ssh-ed25519 AAAA me\n" if holds else "\n"))
    sshd = tmp_path / "sshd"
    sshd.write_text(f"#!/bin/sh\necho port 2222\necho port 22\necho authorizedkeysfile {keys} .none\n")
    sshd.chmod(0o755)
    look = yaml.safe_load((ROLES / "hardening" / "vars" / "main.yml").read_text())["_hardening_look"]
    done = subprocess.run(
        [sys.executable, "-c", look.replace("/usr/sbin/sshd", str(sshd))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"ports": [22, 2222], "key": holds}
