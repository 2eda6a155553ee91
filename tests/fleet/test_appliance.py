"""A bare Pi becomes an appliance, stays as it is, and proves itself: what `make test-pi` runs of all this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.fleet.conftest import AGENT, Fleet, FleetHub
from tests.fleet.pis import Converged
from tests.fleet.playbook import play, verify


@pytest.fixture(scope="module")
def appliance(appliances: Callable[..., AbstractContextManager[Fleet]]) -> Iterator[Fleet]:
    with appliances("porch") as one:
        yield one


def test_a_bare_system_becomes_an_appliance(first: Converged) -> None:
    stats = first.first.stats("bare")
    assert stats["failures"] == stats["unreachable"] == 0
    assert stats["changed"] > 10


def test_a_dry_run_of_a_bare_system_says_that_all_would_change(first: Converged) -> None:
    assert first.dry.changed("bare") == ["preflight : Tell that all would change"]


def test_a_new_hub_address_restarts_the_agent_alone(appliance: Fleet) -> None:
    assert appliance.told.failures("porch") == []
    assert {name.split(" : ")[0] for name in appliance.told.changed("porch")} == {"agent"}
    assert appliance.restarted == {AGENT}


@pytest.mark.full
def test_a_second_run_changes_nothing(appliance: Fleet) -> None:
    done = play("site.yml", appliance.inventory)
    assert done.code == 0, done.trouble()
    assert done.changed("porch") == []


def test_the_target_tests_pass(appliance: Fleet, hub: FleetHub, tmp_path: Path) -> None:
    """As an operator runs them."""
    hub.wait_for("porch")
    proof = verify(appliance.inventory, hub, tmp_path / "junit.xml")
    assert proof.code == 0, proof.said


@pytest.mark.full
def test_the_target_tests_pass_after_a_replug_and_a_reboot(
    appliance: Fleet, hub: FleetHub, tmp_path: Path
) -> None:
    proof = verify(appliance.inventory, hub, tmp_path / "junit.xml", "--disruptive")
    assert proof.code == 0, proof.said
