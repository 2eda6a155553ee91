"""One playbook, a fleet: converge, converge again, change a thing, lose a host, break a release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fleet.conftest import Fleet
from tests.fleet.pis import Converged
from tests.fleet.playbook import ROOT, play
from tests.support.waiting import eventually


def test_a_bare_system_becomes_an_appliance(first: Converged) -> None:
    stats = first.first.stats("bare")
    assert stats["failures"] == stats["unreachable"] == 0
    assert stats["changed"] > 10


def test_a_dead_host_stops_nobody(fleet: Fleet) -> None:
    assert fleet.told.code == 4, fleet.told.said
    assert fleet.told.stats("attic")["unreachable"] == 1
    assert [fleet.told.failures(pi.name) for pi in fleet.pis] == [[], []]


def test_a_changed_variable_touches_only_what_it_concerns(fleet: Fleet) -> None:
    for pi in fleet.pis:
        changed = fleet.told.changed(pi.name)
        assert {name.split(" : ")[0] for name in changed} == {"agent"}, changed
    assert fleet.restarted == {"pinna-agent.service"}


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    done = play("site.yml", fleet.inventory)
    assert done.code == 0, done.said
    assert {pi.name: done.changed(pi.name) for pi in fleet.pis} == {pi.name: [] for pi in fleet.pis}


def test_check_mode_tells_the_truth(fleet: Fleet) -> None:
    done = play("site.yml", fleet.inventory, "--check", "--diff")
    assert done.code == 0, done.said
    assert {pi.name: done.changed(pi.name) for pi in fleet.pis} == {pi.name: [] for pi in fleet.pis}
    before = fleet.units("hall")
    other = play(
        "site.yml",
        fleet.inventory,
        "--check",
        "--diff",
        "--limit",
        "hall",
        "--tags",
        "agent",
        extra={"pinna_device_id": "renamed"},
    )
    assert other.code == 0, other.said
    assert other.report["stats"].keys() == {"hall"}
    assert other.changed("hall")
    assert fleet.units("hall")["pinna-agent.service"] == before["pinna-agent.service"]
    done = play("site.yml", fleet.inventory, "--check", "--limit", "hall", "--tags", "agent")
    assert done.changed("hall") == []


def test_the_hub_hears_every_pi(fleet: Fleet) -> None:
    names = {pi.name for pi in fleet.pis}

    def all_speak() -> bool:
        devices = fleet.hub.health().get("devices", {})
        return names <= devices.keys() and all(devices[name]["frames_received"] > 100 for name in names)

    eventually(all_speak, 120, what="the hub hears both")


def test_the_target_tests_pass(fleet: Fleet, tmp_path: Path) -> None:
    """As an operator runs them, disruptions included: reboot and replug."""
    command = [sys.executable, "-m", "pytest", "tests/target", "-q", "--hosts=ansible://pinna"]
    command += [f"--ansible-inventory={fleet.inventory}", f"--junitxml={tmp_path / 'junit.xml'}"]
    command += [f"--hub-url={fleet.hub.for_us}", f"--hub-token-file={fleet.hub.token_file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"audio_mic_serial": "nobody"}, "audio_mic_serial"),
        ({"audio_mic_rate": "fast"}, "audio_mic_rate"),
        ({"pinna_target": "moon"}, "pinna_target"),
    ],
)
def test_wrong_variables_are_refused_before_anything_changes(
    fleet: Fleet, extra: dict[str, str], told: str
) -> None:
    done = play("site.yml", fleet.inventory, "--limit", "hall", extra=extra)
    assert done.code == 2, done.said
    assert done.stats("hall")["changed"] == 0
    (failure,) = done.failures("hall")
    assert told in failure


def test_a_broken_release_is_taken_back_and_stops_the_update(fleet: Fleet, tmp_path: Path) -> None:
    """The second host must never see it."""
    broken = tmp_path / "broken"
    shutil.copytree(
        ROOT / "agent", broken / "agent", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, broken)
    link = "readlink -f /opt/pinna/current"
    before = [pi.machine.run(link).stdout for pi in fleet.pis]
    app = broken / "agent/pinna/app.py"
    app.write_text("raise RuntimeError('broken on purpose')\n" + app.read_text())
    done = play("update.yml", fleet.inventory, extra={"pinna_agent_source": str(broken)})
    assert done.code == 2, done.said
    assert [pi.machine.run(link).stdout for pi in fleet.pis] == before
    assert "kitchen" not in done.report["stats"] or not done.changed("kitchen")
    for pi in fleet.pis:
        assert pi.machine.run("systemctl is-active pinna-agent").stdout.strip() == "active"
