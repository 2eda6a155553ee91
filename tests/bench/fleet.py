"""What provisioning and proving take on emulated Pis of 512 MB: site.yml twice, and tests/target.

The measure beside the seconds is Ansible's own ping over the same connections: what one module takes,
whatever it does. Many tasks of site.yml need none.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.fleet import pis
from tests.fleet.hub import TOKEN, FleetHub
from tests.fleet.playbook import ROOT, Play, play, verify
from tests.virtual_pi.acoustics import wav
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity

PINGS = 10


def _ping_seconds(folder: Path, inventory: Path) -> float:
    """What one ping of all hosts takes, of `PINGS` in a row."""
    tasks = [{"name": f"Ping {number}", "ansible.builtin.ping": {}} for number in range(PINGS)]
    pings = folder / "pings.yml"
    ours = [
        str(ROOT / "ansible/group_vars/all.yml")
    ]  # the same way of asking; without, a ping takes far longer
    pings.write_text(
        json.dumps([{"hosts": "pinna", "gather_facts": False, "vars_files": ours, "tasks": tasks}])
    )
    done = play(str(pings), inventory)
    assert done.code == 0, done.trouble()
    return done.seconds / PINGS


def _row(what: str, hosts: int, done: Play, ping: float) -> dict[str, Any]:
    return {
        "what": what,
        "hosts": hosts,
        "tasks or tests": done.tasks,
        "s": round(done.seconds),
        "pings": round(done.seconds / ping),
    }


def _hosts(count: int, place: FleetHub, folder: Path) -> list[dict[str, Any]]:
    voice = wav(pis.voice(folder))
    microphones = {f"pi{n}": Sh04(Identity(serial=f"SH04-{n}"), source=voice) for n in range(count)}
    variables = {**pis.variables(place.for_pis), "pinna_hub_token": TOKEN}
    with pis.booted(microphones) as hosts:
        inventory = pis.inventory(folder / f"{count}.ini", hosts, variables)
        first = play("site.yml", inventory)
        assert first.code == 0, first.trouble()
        again = play("site.yml", inventory)
        assert again.code == 0, again.trouble()
        assert not any(again.changed(pi.name) for pi in hosts)
        ping = _ping_seconds(folder, inventory)
        rows = [_row("first converge", count, first, ping), _row("nothing to do", count, again, ping)]
        with place.running():
            place.wait_for(*microphones)
            proof = verify(inventory, place, folder / "junit.xml")
    assert proof.code == 0, proof.said
    suite = ElementTree.parse(folder / "junit.xml").getroot()[0]
    return [
        *rows,
        {
            "what": "tests/target",
            "hosts": count,
            "tasks or tests": int(suite.get("tests", 0)),
            "s": round(proof.seconds),
            "pings": round(proof.seconds / ping),
        },
    ]


def run(quick: bool) -> list[dict[str, Any]]:
    """One host, and three; with `quick`, one alone."""
    with tempfile.TemporaryDirectory() as folder:
        place = FleetHub.somewhere(Path(folder))
        return [row for count in ((1,) if quick else (1, 3)) for row in _hosts(count, place, Path(folder))]
