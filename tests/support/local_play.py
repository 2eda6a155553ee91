"""Run a playbook of our roles on this machine, in a folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROLES = Path(__file__).parents[2] / "ansible" / "roles"


def local_play(
    folder: Path, play: dict[str, Any], *options: str, variables: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """`play` lacks hosts and connection; `variables` are extra ones. Ansible's own files stay in `folder`."""
    whole = {"hosts": "localhost", "connection": "local", "gather_facts": False, **play}
    (folder / "play.yml").write_text(json.dumps([whole]))
    given = json.dumps({"ansible_python_interpreter": sys.executable, **variables})
    return subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", folder / "play.yml"),
            *("-e", given, *options),
        ],
        env={
            **os.environ,
            "ANSIBLE_ROLES_PATH": str(ROLES),
            "ANSIBLE_LIBRARY": str(ROLES.parent / "library"),
            "ANSIBLE_HOME": str(folder),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def render(folder: Path, role: str, template: str, variables: dict[str, Any]) -> str:
    """`template` of `role`, as Ansible writes it once the role has checked and completed `variables`."""
    play = {
        "name": "Render one template",
        "tasks": [
            {
                "name": "Check the values",
                "ansible.builtin.include_role": {"name": role, "tasks_from": "validate", "public": True},
            },
            {
                "name": "Render",
                "ansible.builtin.template": {
                    "src": str(ROLES / role / "templates" / template),
                    "dest": str(folder / "rendered"),
                    "mode": "0600",
                },
            },
        ],
    }
    done = local_play(folder, play, variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "rendered").read_text()
