"""update.yml before it changes anything: on this machine as the only device, or on none that answers.

That it goes back to the release before is shown on virtual Pis, in tests/fleet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

UPDATE = Path(__file__).parents[2] / "ansible" / "update.yml"


def update(folder: Path, host: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    inventory = folder / "inventory.ini"
    inventory.write_text(f"[pinna]\n{host}\n")
    given = json.dumps({"ansible_become": False, **variables})
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", inventory, UPDATE, "-e", given],
        env={**os.environ, "ANSIBLE_HOME": str(folder), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_what_cannot_be_built_changes_nothing(tmp_path: Path) -> None:
    done = update(
        tmp_path,
        f"here ansible_connection=local ansible_python_interpreter={sys.executable}",
        agent_source=str(tmp_path),
    )
    told = done.stdout + done.stderr
    assert done.returncode == 2, told
    assert f"{tmp_path} is no checkout of Pinna: it has no pyproject.toml" in told
    assert "changed=0" in done.stdout
    assert "Update the agents" not in done.stdout


def test_a_device_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    done = update(tmp_path, "attic ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args='-F none'")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "unreachable=1" in done.stdout
    assert "Install the release and run it" not in done.stdout


def test_one_device_goes_first_and_the_first_failure_ends_it() -> None:
    look, roll = yaml.safe_load(UPDATE.read_text())
    assert roll["serial"] == [1, "10%", "100%"]
    assert (look["max_fail_percentage"], roll["max_fail_percentage"]) == (0, 0)
