"""What the agent stands on."""

from __future__ import annotations

from typing import Any

import pytest
from tests.target.proof import must
from tests.target.remote.facts import SOUND_FILES

Facts = dict[str, Any]


def test_the_system_is_supported(facts: Facts) -> None:
    system = facts["system"]
    known = system.get("ID") == "debian" and system.get("VERSION_ID") in ("12", "13")
    must(
        known and facts["machine"] in ("aarch64", "x86_64"),
        f"{system.get('PRETTY_NAME', 'This system')} on {facts['machine']} is not supported",
        "Use 64-bit Debian or Raspberry Pi OS, bookworm or trixie.",
    )


def test_the_configuration_of_sound_belongs_to_root(facts: Facts) -> None:
    wrong = []
    for path in SOUND_FILES:
        found = facts["files"][path]
        if found is None:
            wrong.append(f"{path} is not there")
        elif (found["owner"], found["mode"], found["kind"]) != ("root", "0644", "file"):
            wrong.append(f"{path} is a {found['kind']}, {found['owner']}'s, {found['mode']}")
    must(not wrong, "; ".join(wrong), "Run site.yml with --tags audio.")


def test_time_is_kept(facts: Facts) -> None:
    unit = facts["units"]["systemd-timesyncd.service"]
    must(
        unit["UnitFileState"] == "enabled",
        "systemd-timesyncd is not enabled",
        "Run site.yml with --tags base.",
    )


@pytest.mark.live
def test_what_starts_at_boot_runs(facts: Facts) -> None:
    idle = [
        f"{name} is {unit['ActiveState']}"
        for name, unit in facts["units"].items()
        if unit.get("UnitFileState") == "enabled" and unit["ActiveState"] != "active"
    ]
    must(not idle, "; ".join(idle), "systemctl start it, and see its journal.")


@pytest.mark.live
def test_no_unit_failed(facts: Facts) -> None:
    failed = [line.split()[0] for line in facts["failed"] if line.strip()]
    must(not failed, f"failed: {', '.join(failed)}", "journalctl -u the unit says why.")
