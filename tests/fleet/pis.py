"""Virtual Pis that the playbook has made appliances of: a converged disk, cached, and machines from it.

The first run of site.yml on a bare system takes many minutes on an emulated Pi. Its result is kept under the
user's cache folder, keyed by all that goes into it, with Ansible's report of that first run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.fleet.playbook import ROOT, Play, play
from tests.virtual_pi import base as base_system
from tests.virtual_pi import plug
from tests.virtual_pi.acoustics import read_wav, write_wav
from tests.virtual_pi.base import SUITE
from tests.virtual_pi.boards import Virt
from tests.virtual_pi.cache import cached
from tests.virtual_pi.container_base import container_base
from tests.virtual_pi.machine import GATEWAY, Machine
from tests.virtual_pi.progress import step
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

from pinna.demo import speech

SOURCES = ("agent/pinna", "ansible", "asound.conf", "requirements.lock", "tests/fleet/pis.py")
ROOM_DBFS = -60  # RMS of what a microphone hears of a room where nobody speaks
SSH = "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"

_ATTACH = Path(plug.__file__).with_name("guest_attach.py")
_PLUGGED_IN = """\
[Unit]
Description=The virtual microphone, which stays plugged in over a reboot
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /var/lib/virtual-microphone {host} {port} {busid}

[Install]
WantedBy=multi-user.target
"""


@dataclass
class Pi:
    """A machine with its microphone plugged into a USB/IP server of ours."""

    name: str
    machine: Machine
    server: UsbipServer
    microphone: Sh04

    def plug(self) -> None:
        """Plug the microphone in, for this boot and those to come; returns when its card is there."""
        busid = self.server.plug(self.microphone)
        self.machine.put(_ATTACH, "/var/lib/virtual-microphone")
        unit = _PLUGGED_IN.format(host=GATEWAY, port=self.server.port, busid=busid)
        self.machine.run("cat >/etc/systemd/system/virtual-microphone.service", stdin=unit)
        self.machine.run("systemctl daemon-reload && systemctl enable -q --now virtual-microphone.service")

    def line(self) -> str:
        """Its line in an inventory."""
        settings = {
            "ansible_host": "127.0.0.1",
            "ansible_port": str(self.machine.ssh_port),
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.machine.key),
            "ansible_ssh_common_args": f"'{SSH}'",
        }
        return " ".join([self.name, *(f"{key}={value}" for key, value in settings.items())])


def voice(folder: Path) -> Path:
    """A WAV of somebody who speaks, for the microphones. In the pauses there is the room, as in any room."""
    at = folder / "voice.wav"
    speech.speak(*speech.NEAR, at, pause_seconds=1.0)
    spoken, rate = read_wav(at)
    noise = np.random.default_rng(1).normal(0, 10 ** (ROOM_DBFS / 20), spoken.shape)
    write_wav(at, spoken + noise.astype(np.float32), rate)
    return at


def variables(hub_url: str, suite: str = SUITE) -> dict[str, str]:
    """What an emulated Pi needs. Its processor is too slow for the echo canceller, and for short periods."""
    return {
        "pinna_hub_url": hub_url,
        "docker_base_archive": str(container_base(suite)),
        "agent_settings": json.dumps(
            {"echo": {"engine": "none"}, "audio": {"latency_ms": 200, "output": "none"}}
        ),
        "audio_period_ms": "40",
        "audio_buffer_ms": "640",
    }


def inventory(at: Path, pis: Iterable[Pi], variables: Mapping[str, str], *more: str) -> Path:
    """Write an inventory of `pis`, further lines `more`, and variables for them all."""
    lines = ["[pinna]", *(pi.line() for pi in pis), *more, "", "[pinna:vars]"]
    lines += [f"{key}={value}" for key, value in variables.items()]
    at.write_text("\n".join([*lines, ""]))
    return at


@contextmanager
def booted(
    microphones: Mapping[str, Sh04], disk: Path | None = None, suite: str = SUITE, memory_mb: int = 512
) -> Iterator[tuple[Pi, ...]]:
    """Running Pis, one for each name, their microphones plugged in.

    They are copies of a converged `disk`, or else of the bare base system.
    """
    base = base_system.base(suite)
    with ExitStack() as stage, step(f"booting {', '.join(microphones)}"):
        pis = []
        for name, microphone in microphones.items():
            server = stage.enter_context(UsbipServer())
            machine = stage.enter_context(Machine(base, Virt(memory_mb)))
            if disk is not None:
                machine.disk.unlink()
                base_system.overlay(disk, "qcow2", machine.disk)
            machine.start()
            pis.append(Pi(name, machine, server, microphone))
        for pi in pis:
            pi.machine.wait_ssh(600)
            pi.plug()
        kept = stage.pop_all()
    with kept:
        yield tuple(pis)


@dataclass(frozen=True)
class Converged:
    """A disk on which site.yml has run, and what Ansible said of that run, and of a dry one before it."""

    disk: Path
    dry: Play
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
    return digest.hexdigest()[:12]


def converged(microphone: Sh04, variables: Mapping[str, str], suite: str = SUITE) -> Converged:
    """The converged disk of these sources; made now when the cache does not hold it (many minutes)."""

    def make(work: Path) -> None:
        _converge(work, microphone, variables, suite)

    folder = cached(f"converged-{suite}", key(variables), make)
    dry, first = (Play(**saved) for saved in json.loads((folder / "reports.json").read_text()))
    return Converged(folder / "disk.qcow2", dry, first)


def _converge(work: Path, microphone: Sh04, variables: Mapping[str, str], suite: str) -> None:
    with booted({"bare": microphone}, suite=suite) as (pi,):
        one = inventory(work / "inventory.ini", [pi], variables)
        runs = (play("site.yml", one, "--check", "--diff"), play("site.yml", one))
        for run in runs:
            assert run.code == 0, run.trouble()
        (work / "reports.json").write_text(json.dumps([vars(run) for run in runs]))
        # Each copy gets an identity of its own: the key of the machine that boots it, and a machine-id.
        pi.machine.run("systemctl disable -q virtual-microphone.service; journalctl -q --rotate")
        pi.machine.run("rm -f ~/.ssh/authorized_keys; : >/etc/machine-id; sync")
        pi.machine.power_cut()
        shutil.copyfile(pi.machine.disk, work / "disk.qcow2")
