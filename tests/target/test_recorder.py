"""The recorder, where anything is to be recorded: it runs, it writes, and it can tell the time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.target.proof import must

Answer = dict[str, Any]

UNIT = "pinna-recorder.service"
ARCHIVE = "pinna-archive.service"
CONVERGE = "Run site.yml with --tags recorder."


@pytest.fixture(autouse=True)
def wanted(facts: Answer) -> None:
    if facts["units"][UNIT].get("UnitFileState") != "enabled":
        pytest.skip("nothing is to be recorded here (recorder_sources)")


def test_its_configuration_is_roots_alone(facts: Answer) -> None:
    found = facts["files"]["/etc/pinna/recorder.toml"]
    must(found, "/etc/pinna/recorder.toml is not there", CONVERGE)
    rights = found["owner"], found["group"], found["mode"]
    must(
        rights == ("root", "root", "0600"),
        f"/etc/pinna/recorder.toml is {rights}; it may hold passwords",
        CONVERGE,
    )


@pytest.mark.live
def test_it_runs(facts: Answer) -> None:
    unit = facts["units"][UNIT]
    must(
        unit["ActiveState"] == "active" and unit["SubState"] == "running",
        f"{UNIT} is {unit['ActiveState']} ({unit['SubState']}, {unit['Result']})",
        f"systemctl start {UNIT}; journalctl -u {UNIT} says why it ended.",
    )
    user = facts["recorder_runs_as"]
    must(user == "pinna-recorder", f"it runs as {user}, not as pinna-recorder", CONVERGE)


@pytest.mark.live
def test_every_source_is_recorded(facts: Answer) -> None:
    sources = facts["recorder"].get("sources", {})
    must(sources, "the recorder says nothing of itself", f"journalctl -u {UNIT}")
    silent = [
        f"{name}: {source['state']} {source.get('trouble', '')}".strip()
        for name, source in sources.items()
        if source["state"] != "recording" or not source["recorded_samples"]
    ]
    must(
        not silent,
        "; ".join(silent),
        "Is the card there, the stream on the air? `pinna record --list-devices`",
    )


@pytest.mark.live
def test_it_knows_how_far_the_clock_can_be_believed(facts: Answer) -> None:
    clock = facts["recorder"].get("clock")
    must(clock not in (None, "unknown"), f"it says {clock} of the clock", f"Is adjtimex refused? {CONVERGE}")


@pytest.mark.live
def test_its_archive_can_be_seen(facts: Answer) -> None:
    unit = facts["units"][ARCHIVE]
    if unit.get("UnitFileState") != "enabled":
        pytest.skip("recorder_archive is false")
    must(unit["ActiveState"] == "active", f"{ARCHIVE} is {unit['ActiveState']}", f"journalctl -u {ARCHIVE}")
