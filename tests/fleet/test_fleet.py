"""One playbook, two Pis: converge again, change a thing, lose a host, cut a run short, break a release."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.fleet.conftest import AGENT, Fleet, FleetHub, units
from tests.fleet.pis import Pi
from tests.fleet.playbook import ROOT, kill_at, play, verify

RUN = "    async def run(self) -> None:\n"
NOT_THIS = "This is another system's, for a while"


@pytest.fixture(scope="module")
def fleet(appliances: Callable[..., AbstractContextManager[Fleet]]) -> Iterator[Fleet]:
    with appliances("hall", "kitchen") as two:
        yield two


def test_a_dead_host_stops_nobody(fleet: Fleet) -> None:
    assert fleet.told.code == 4, fleet.told.trouble()
    assert fleet.told.stats("attic")["unreachable"] == 1
    assert [fleet.told.failures(pi.name) for pi in fleet.pis] == [[], []]


def test_a_changed_variable_touches_only_what_it_concerns(fleet: Fleet) -> None:
    for pi in fleet.pis:
        changed = fleet.told.changed(pi.name)
        assert {name.split(" : ")[0] for name in changed} == {"agent"}, changed
    assert fleet.restarted == {AGENT}


def test_a_dry_run_of_what_is_done_finds_nothing_to_do(fleet: Fleet) -> None:
    done = play("site.yml", fleet.inventory, "--check", "--diff")
    assert done.code == 0, done.trouble()
    assert {pi.name: done.changed(pi.name) for pi in fleet.pis} == {pi.name: [] for pi in fleet.pis}


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    before = [units(pi) for pi in fleet.pis]
    done = play("site.yml", fleet.inventory)
    assert done.code == 0, done.trouble()
    assert {pi.name: done.changed(pi.name) for pi in fleet.pis} == {pi.name: [] for pi in fleet.pis}
    assert [unit[AGENT] for unit in before] == [units(pi)[AGENT] for pi in fleet.pis]


def test_limit_tags_and_check_mode_say_what_would_change_where(fleet: Fleet) -> None:
    hall = fleet.pi("hall")
    before = (units(hall)[AGENT], config(hall))
    arguments = ("--check", "--diff", "--limit", "hall", "--tags", "agent")
    done = play("site.yml", fleet.inventory, *arguments, extra={"pinna_device_id": "renamed"})
    assert done.code == 0, done.trouble()
    assert done.report["stats"].keys() == {"hall"}
    names = [name for name, _ in done.results("hall") if name.startswith("hardening : ")]
    assert all("Validating arguments" in name for name in names), names
    assert len(done.changed("hall")) == 2, done.changed("hall")  # the configuration, and the restart
    (diff,) = [result["diff"] for name, result in done.results("hall") if "configure the agent" in name]
    assert 'device_id = "renamed"' in diff[0]["after"]
    assert 'device_id = "hall"' in diff[0]["before"]
    assert (units(hall)[AGENT], config(hall)) == before


def test_a_run_that_was_cut_short_can_be_repeated(fleet: Fleet) -> None:
    """Killed with the new configuration written, but the agent still at work with the old one."""
    hall, changed = fleet.pi("hall"), {"agent_watchdog_seconds": 61}
    arguments = ("--limit", "hall", "--tags", "agent")
    before = units(hall)[AGENT]
    kill_at("agent : Run what is installed", "site.yml", fleet.inventory, *arguments, extra=changed)
    assert "WatchdogSec=61" in hall.machine.run(f"cat /etc/systemd/system/{AGENT}").stdout
    assert units(hall)[AGENT] == before
    done = play("site.yml", fleet.inventory, *arguments, extra=changed)
    assert done.code == 0, done.trouble()
    assert done.changed("hall") == ["agent : Run what is installed, from now on"]
    assert units(hall)[AGENT] != before
    assert watchdog(hall) == "1min 1s"


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"audio_mic_serial": "nobody"}, ["audio_mic_serial is 'nobody'", "SH04-hall"]),
        ({"audio_mic_rate": "fast"}, ["audio_mic_rate", "44100, 48000"]),
        ({"agent_keep_releases": "few"}, ["agent_keep_releases", "int"]),
        ({"pinna_target": "moon"}, ["pinna_target", "live, image"]),
    ],
)
def test_wrong_variables_are_refused_before_anything_changes(
    fleet: Fleet, extra: dict[str, Any], told: list[str]
) -> None:
    done = play("site.yml", fleet.inventory, "--limit", "hall", extra=extra)
    assert done.code == 2, done.trouble()
    assert done.stats("hall")["changed"] == 0
    (failure,) = done.failures("hall")
    assert all(words in failure for words in told), failure


@pytest.fixture
def another_system(fleet: Fleet) -> Iterator[Pi]:
    """A Pi that says it runs something that nobody has tried."""
    hall = fleet.pi("hall")
    release = f'PRETTY_NAME="{NOT_THIS}"\nID=ubuntu\nVERSION_ID="24.04"\n'
    hall.machine.run("cat >/run/os-release && mount --bind /run/os-release /etc/os-release", stdin=release)
    yield hall
    hall.machine.run("umount /etc/os-release")


def test_an_unsupported_system_is_refused_by_name(fleet: Fleet, another_system: Pi) -> None:
    done = play("site.yml", fleet.inventory, "--limit", another_system.name)
    assert done.code == 2, done.trouble()
    assert done.stats(another_system.name)["changed"] == 0
    (failure,) = done.failures(another_system.name)
    assert f"{NOT_THIS} is not supported. Pinna runs on Debian 12 and 13" in failure


def test_the_hub_hears_every_pi(fleet: Fleet, hub: FleetHub) -> None:
    hub.wait_for(*(pi.name for pi in fleet.pis))


def test_a_broken_release_is_taken_back_and_stops_the_update(
    fleet: Fleet, hub: FleetHub, tmp_path: Path
) -> None:
    """It installs well and does not run. The second host never sees it."""
    source = another_release(tmp_path, f"{RUN}        raise RuntimeError('broken on purpose')\n")
    before = [release(pi) for pi in fleet.pis]
    done = play("update.yml", fleet.inventory, extra={"agent_source": str(source)})
    assert done.code == 2, done.trouble()
    assert [release(pi) for pi in fleet.pis] == before
    first, second = fleet.pis
    assert done.changed(first.name)
    assert done.changed(second.name) == []
    assert f"{before[0]} is in force again and streams" in " ".join(done.failures(first.name))
    for pi in fleet.pis:
        assert pi.machine.run(f"systemctl is-active {AGENT}").stdout.strip() == "active"


def test_a_good_release_goes_round_and_is_proven_on_each(fleet: Fleet, hub: FleetHub, tmp_path: Path) -> None:
    source = another_release(tmp_path, f"{RUN}        # a release like any other\n")
    before = [release(pi) for pi in fleet.pis]
    done = play("update.yml", fleet.inventory, extra={"agent_source": str(source)})
    assert done.code == 0, done.trouble()
    after = [release(pi) for pi in fleet.pis]
    assert after[0] == after[1] != before[0]
    for pi in fleet.pis:
        (proof,) = [result for name, result in done.results(pi.name) if name == "Run the target's tests"]
        assert " passed" in proof["stdout_lines"][-1], proof


def test_the_target_tests_pass_on_both_at_once(fleet: Fleet, hub: FleetHub, tmp_path: Path) -> None:
    proof = verify(fleet.inventory, hub, tmp_path / "junit.xml")
    assert proof.code == 0, proof.said


def another_release(folder: Path, run: str) -> Path:
    """A checkout of this source, but for one line of the agent, which is `run` there."""
    checkout = folder / "checkout"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "agent", checkout / "agent", ignore=left_out)
    for name in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    app = checkout / "agent/pinna/app.py"
    text = app.read_text()
    assert text.count(RUN) == 1
    app.write_text(text.replace(RUN, run))
    return checkout


def config(pi: Pi) -> str:
    return pi.machine.run("cat /etc/pinna/pinna.toml").stdout


def watchdog(pi: Pi) -> str:
    return pi.machine.run(f"systemctl show --value --property=WatchdogUSec {AGENT}").stdout.strip()


def release(pi: Pi) -> str:
    return pi.machine.run("basename $(readlink /opt/pinna/current)").stdout.strip()
