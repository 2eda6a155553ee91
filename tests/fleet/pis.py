"""Virtual Pis that the playbook has made appliances of: a converged disk, cached, and machines from it.

The first run of site.yml on a bare system takes many minutes on an emulated Pi. Its result is kept under the
user's cache folder, keyed by all that goes into it, with Ansible's report of that first run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.playbook import ROOT, Play, play
from tests.virtual_pi import base as base_system
from tests.virtual_pi.boards import Virt
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.plug import attach
from tests.virtual_pi.progress import step
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

SOURCES = ("agent/pinna", "ansible", "asound.conf", "requirements.lock", "tests/fleet/pis.py")
SSH = "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no"
_KEPT = 2  # converged disks in the cache: this one and the one before


@dataclass
class Pi:
    """A machine with its microphone plugged into a USB/IP server of ours."""

    name: str
    machine: Machine
    server: UsbipServer
    microphone: Sh04
    busid: str = ""

    def plug(self) -> None:
        """Plug the microphone in; returns when its card is there."""
        self.busid = self.server.plug(self.microphone)
        attach(self.machine, self.server, self.busid)

    def unplug(self) -> None:
        self.server.unplug(self.busid)

    def line(self, **variables: str) -> str:
        """Its line in an inventory."""
        settings = {
            "ansible_host": "127.0.0.1",
            "ansible_port": str(self.machine.ssh_port),
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.machine.key),
            "ansible_ssh_common_args": f"'{SSH}'",
            **variables,
        }
        return " ".join([self.name, *(f"{key}={value}" for key, value in settings.items())])


def inventory(at: Path, pis: Iterable[Pi], variables: Mapping[str, str], *more: str) -> Path:
    """Write an inventory of `pis`, further lines `more`, and variables for them all."""
    lines = ["[pinna]", *(pi.line() for pi in pis), *more, "", "[pinna:vars]"]
    lines += [f"{key}={value}" for key, value in variables.items()]
    at.write_text("\n".join([*lines, ""]))
    return at


@contextmanager
def booted(name: str, microphone: Sh04, disk: Path | None = None, memory_mb: int = 512) -> Iterator[Pi]:
    """A running Pi with its microphone plugged in, from a converged `disk` or from the bare base system."""
    base = base_system.base()
    with UsbipServer() as server, Machine(base, Virt(memory_mb=memory_mb)) as machine:
        if disk is not None:
            machine.disk.unlink()
            base_system.overlay(disk, "qcow2", machine.disk)
        with step(f"booting {name}"):
            machine.start()
            machine.wait_ssh(600)
            pi = Pi(name, machine, server, microphone)
            pi.plug()
        yield pi


@dataclass(frozen=True)
class Converged:
    """A disk on which site.yml has run, and what Ansible said of that run."""

    disk: Path
    first: Play


def key(variables: Mapping[str, str]) -> str:
    """Changes with the base system, the sources that go onto the Pi, and the variables."""
    digest = hashlib.sha256(f"{base_system.key()} {sorted(variables.items())}".encode())
    for source in SOURCES:
        path = ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return f"converged-{digest.hexdigest()[:12]}"


def converged(microphone: Sh04, variables: Mapping[str, str]) -> Converged:
    """The converged disk of these sources; made now when the cache does not hold it (many minutes)."""
    cache = base_system.cache_folder()
    folder = cache / key(variables)
    if not (folder / "report.json").exists():
        work = Path(tempfile.mkdtemp(prefix="converging-", dir=cache))
        try:
            _converge(work, microphone, variables)
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        for old in sorted(cache.glob("converged-*"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old)
    os.utime(folder)
    saved = json.loads((folder / "report.json").read_text())
    return Converged(folder / "disk.qcow2", Play(**saved))


def _converge(work: Path, microphone: Sh04, variables: Mapping[str, str]) -> None:
    with booted("bare", microphone) as pi, step("running site.yml on a bare system"):
        first = play("site.yml", inventory(work / "inventory.ini", [pi], variables))
        if first.code:
            raise AssertionError("\n".join([first.said, *first.failures("bare")]))
        (work / "report.json").write_text(json.dumps(vars(first)))
        # Each copy gets an identity of its own: the key of the machine that boots it, and a machine-id.
        pi.machine.run("rm -f /root/.ssh/authorized_keys; : >/etc/machine-id; journalctl -q --rotate; sync")
        pi.unplug()
        pi.machine.power_cut()
        shutil.copyfile(pi.machine.disk, work / "disk.qcow2")
