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
from tests.support.local_play import local_play

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


def test_the_recorder_follows_the_release_there_and_back() -> None:
    """As soon as another release is in force; the one before it is pruned one day."""
    _, roll = yaml.safe_load(UPDATE.read_text())
    there_and_back = roll["tasks"][0]
    _, *back = next(task for task in there_and_back["rescue"] if "block" in task)["block"]
    there = there_and_back["block"]
    for tasks, in_force in ((there, "Install the release and run it"), (back, "Run the old release")):
        place = [task["name"] for task in tasks].index(in_force)
        assert tasks[place + 1]["ansible.builtin.import_role"] == {"name": "recorder", "tasks_from": "renew"}


def test_where_nothing_is_recorded_nothing_is_restarted(tmp_path: Path) -> None:
    renew = {"name": "recorder", "tasks_from": "renew"}
    play = {"name": "Renew", "tasks": [{"name": "Renew", "ansible.builtin.import_role": renew}]}
    done = local_play(tmp_path, play, "--check", variables={"pinna_target": "live"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert "skipping: [localhost] => (item=pinna-recorder.service)" in done.stdout
