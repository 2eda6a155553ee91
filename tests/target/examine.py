"""All hosts are examined at once, each in a thread of its own; the tests then only judge what was seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.target.contact import Contact, Unreachable
from tests.target.hub import Hub, HubSilent

FOUND, REPLUGGED, REBOOTED = "found", "replugged", "rebooted"
STAGES = (FOUND, REPLUGGED, REBOOTED)
"""A host as it was found, and after each disruption; each stage is examined and judged in full."""

AT_ONCE = 16
REBOOT_SECONDS = 600

Answer = dict[str, Any]


@dataclass(frozen=True)
class HubView:
    """What the hub said before and after the recordings; or the `trouble` of asking it."""

    before: Answer = field(default_factory=dict)
    after: Answer = field(default_factory=dict)
    trouble: str = ""


NOTHING = HubView()


@dataclass(frozen=True)
class Seen:
    """One host at one stage: the doctor's snapshot, and the answers of the programs in remote/.

    What was not asked for is empty; so is the snapshot of what does not run.
    """

    facts: Answer
    snapshot: Answer
    disruption: Answer
    sound: Answer
    container: Answer
    image: Answer
    hub: HubView


class Examination:
    """Of a fleet. `parts` are what the tests ask for beyond facts: snapshot, sound, container, image, hub."""

    def __init__(
        self, contacts: Iterable[Contact], stages: Iterable[str], parts: set[str], hub: Hub | None
    ) -> None:
        self._contacts = list(contacts)
        self._parts = parts
        self._hub = hub
        self._results: dict[tuple[str, str], Future[Seen]] = {
            (contact.name, stage): Future() for contact in self._contacts for stage in stages
        }
        self._pool = ThreadPoolExecutor(AT_ONCE, "examination")

    def begin(self) -> None:
        for contact in self._contacts:
            self._pool.submit(self._host, contact)

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for contact in self._contacts:
            contact.hang_up()

    def seen(self, name: str, stage: str) -> Seen:
        """Of one host; waits for it. Raises Unreachable."""
        return self._results[name, stage].result()

    def _host(self, contact: Contact) -> None:
        """Stage by stage. What is not reached, or does not run, is not disrupted: all its stages end so."""
        seen: Seen | None = None
        trouble: BaseException | None = None
        for (name, stage), result in self._results.items():
            if name != contact.name:
                continue
            if trouble is None and (seen is None or seen.facts["running"]):
                try:
                    seen = self._stage(contact, stage)
                except BaseException as error:  # noqa: BLE001  (the tests that wait for it raise it)
                    trouble = error
            if trouble is not None:
                result.set_exception(trouble)
            elif seen is not None:
                result.set_result(seen)

    def _stage(self, contact: Contact, stage: str) -> Seen:
        disruption = self._disrupt(contact, stage)
        facts = contact.ask("facts")
        snapshot = contact.look() if "snapshot" in self._parts and facts["running"] else {}
        before = self._hub_view()
        sound = contact.ask("listen") if "sound" in self._parts and facts["running"] else {}
        container = contact.ask("container") if "container" in self._parts and _has_probe(facts) else {}
        image = contact.ask("image") if "image" in self._parts and not facts["running"] else {}
        return Seen(facts, snapshot, disruption, sound, container, image, self._hub_view(before, facts))

    def _hub_view(self, view: HubView = NOTHING, facts: Answer | None = None) -> HubView:
        """Ask the hub: at first, and again with that view once the device's facts are known."""
        if self._hub is None or view.trouble or "hub" not in self._parts:
            return view
        try:
            if facts is None:
                return HubView(self._hub.health())
            device = facts["configuration"].get("device_id", "")
            return HubView(view.before, self._hub.watch(device, view.before))
        except HubSilent as error:
            return HubView(trouble=str(error))

    @staticmethod
    def _disrupt(contact: Contact, stage: str) -> Answer:
        if stage == REPLUGGED:
            return contact.ask("replug")
        return reboot(contact) if stage == REBOOTED else {}


def _has_probe(facts: Answer) -> bool:
    """Whether a container can be started that is to hear the microphone."""
    runs = facts["units"]["docker.service"].get("ActiveState") == "active"
    return runs and facts["files"]["/opt/pinna/probe/compose.yaml"] is not None


EXAMINATION = pytest.StashKey[Examination]()
"""Where the run that is under way has its examination, in the stash of pytest's configuration."""


def reboot(contact: Contact) -> Answer:
    """Reboot, and wait until the new system has settled. Raises Unreachable when it does not come back."""
    before = contact.ask("boot")["boot"]
    began = time.monotonic()
    with contextlib.suppress(Unreachable):  # it may go down faster than it answers
        contact.ask("reboot")
    last: Unreachable | None = None
    while time.monotonic() - began < REBOOT_SECONDS:
        contact.hang_up()
        try:
            if contact.ask("boot")["boot"] != before:
                answered = time.monotonic() - began
                settled = contact.ask("settle")
                return {"answered_seconds": round(answered, 1), "settled_seconds": settled["seconds"]}
        except Unreachable as error:
            last = error
        time.sleep(1)
    raise Unreachable(
        f"{contact.name} did not come back from a reboot within {REBOOT_SECONDS} s"
        + (f" ({last})" if last else ": it never went down")
        + ". Look at its screen, or at its serial console."
    )
