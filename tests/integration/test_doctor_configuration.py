"""Faults of ALSA's configuration and of its libraries, for real and without a card.

Each is made in a mount namespace, where /etc is a layer of the test's own; the doctor names it there, its
commands are run there as they are printed, and it is gone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pinna.demo.sound import VirtualSound
from pinna.doctor.finding import Finding
from pinna.doctor.judge import judge, parse
from pinna.doctor.looking import SOURCE

pytestmark = pytest.mark.full

GRAPH = Path(__file__).parents[2] / "asound.conf"
HARDWARE = 'defaults.pinna.mic_card "mic"\n'
EXTRA = "/etc/alsa/conf.d/60-fault.conf"
INSTALL = f"cp {shlex.quote(str(GRAPH))} /etc/asound.conf"  # what role audio of the playbook does


class Layer:
    """A root's view of this machine with an /etc and a home of its own, kept from one command to the next."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._upper, self._work = folder / "upper", folder / "work"
        for each in (self.home, self._upper, self._work):
            each.mkdir()

    def run(self, script: str, given: bytes = b"", **environment: str) -> bytes:
        """Shell, as root. Raises when it fails."""
        layers = f"lowerdir=/etc,upperdir={self._upper},workdir={self._work},userxattr"
        mount = f"mount -t overlay overlay -o {layers} /etc && {{ {script}\n}}"
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", mount],
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "HOME": str(self.home), **environment},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def link(self, name: str, before: str = "true", **environment: str) -> Finding:
        """What the doctor says of one link of the chain."""
        collect = f"{before}; exec {shlex.quote(sys.executable)} - --user root"
        snapshot: dict[str, Any] = parse(self.run(collect, SOURCE.read_bytes(), **environment).decode())
        # Without a card there is no permission to judge.
        return {one.link: one for one in judge({**snapshot, "nodes": None})}[name]


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    """As role audio leaves a machine, but for the card."""
    layer = Layer(tmp_path)
    layer.run(f"cat >/etc/alsa/conf.d/40-pinna.conf; {INSTALL}", HARDWARE.encode())
    return layer


@dataclass(frozen=True)
class Fault:
    cause: str
    breaks: str
    by_hand: str = ""  # what the cure has a person do


FAULTS = (
    Fault("alsa-syntax-error", f"echo 'pcm.x {{' >{EXTRA}"),
    Fault("alsa-syntax-error", f"head -c 300 /dev/urandom >{EXTRA}; printf '\\n}}}}}}' >>{EXTRA}"),
    Fault("alsa-syntax-error", "echo '}' >$HOME/.asoundrc"),
    Fault("alsa-conf-is-a-folder", "mkdir $HOME/.asoundrc"),
    Fault("pcm-redefined", "echo 'pcm.!default { type null }' >$HOME/.asoundrc"),
    Fault("pcm-redefined", "echo 'pcm.!shared_mic { type null }' >$HOME/.asoundrc"),
    Fault("asound-conf-missing", "rm /etc/asound.conf", by_hand=INSTALL),
    Fault(
        "asound-conf-missing", "ln -sf /nowhere /etc/asound.conf", by_hand=f"rm /etc/asound.conf; {INSTALL}"
    ),
    Fault("ipc-perm-invalid", "sed -i 's/ipc_perm 0660/ipc_perm 660/' /etc/asound.conf"),
    Fault("alsa-conf-is-a-folder", "rm /etc/asound.conf; mkdir /etc/asound.conf", by_hand=INSTALL),
)


@pytest.mark.parametrize(
    "fault", FAULTS, ids=[f"{each.cause}-{number}" for number, each in enumerate(FAULTS)]
)
def test_a_fault_is_named_and_its_cure_heals(layer: Layer, fault: Fault) -> None:
    assert layer.link("alsa").status == "ok"
    layer.run(fault.breaks)
    found = layer.link("alsa")
    assert (found.status, found.cause) == ("broken", fault.cause), found
    for command in found.commands:
        layer.run(command)
    if fault.by_hand:
        layer.run(fault.by_hand)
    assert layer.link("alsa").status == "ok"


def test_a_missing_plugin_is_named(layer: Layer) -> None:
    plugins = next(Path("/usr/lib").glob("*-linux-*/alsa-lib"))
    layer.run("rm /etc/asound.conf /etc/alsa/conf.d/40-pinna.conf")
    layer.run("echo 'pcm.!default { type pulse }' >$HOME/.asoundrc")
    found = layer.link("alsa", before=f"mount -t tmpfs none {plugins}")
    assert found.cause == "alsa-plugin-missing"
    assert "pulse.so" in found.title


def test_pyaudio_of_another_python_is_named(layer: Layer, tmp_path: Path) -> None:
    package = tmp_path / "site" / "pyaudio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from pyaudio import _portaudio\n")
    (package / "_portaudio.cpython-39-x86_64-linux-gnu.so").touch()
    with VirtualSound() as sound:
        found = heard(layer, sound, PYTHONPATH=str(package.parent))
    assert found.cause == "pyaudio-of-another-python"


def test_a_foreign_libasound_is_named(layer: Layer, tmp_path: Path) -> None:
    own = next(Path("/usr/lib").glob("*-linux-*/libasound.so.2")).resolve()
    shutil.copy(own, tmp_path / own.name)
    (tmp_path / "libasound.so.2").symlink_to(own.name)
    with VirtualSound() as sound:
        assert heard(layer, sound).status == "ok"
        found = heard(layer, sound, LD_LIBRARY_PATH=str(tmp_path))
        mounted = heard(layer, sound, before=f"mount --bind {tmp_path / own.name} {own}")
    assert found.cause == mounted.cause == "foreign-libasound"
    assert f"LD_LIBRARY_PATH={tmp_path}" in found.evidence
    assert f"{own} is a mount" in mounted.evidence


def test_a_missing_portaudio_is_named(layer: Layer, tmp_path: Path) -> None:
    """Where PyAudio is installed; else nobody may need it."""
    package = tmp_path / "site" / "pyaudio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import ctypes; ctypes.CDLL('libportaudio.so.2')\n")
    library = next(Path("/usr/lib").glob("*-linux-*/libportaudio.so.2")).resolve()
    without = f"mount --bind /dev/null {library}"
    with VirtualSound() as sound:
        assert heard(layer, sound, without, PYTHONPATH=str(package.parent)).cause == "portaudio-missing"
        assert heard(layer, sound, without).status == "not applicable"


def test_a_microphone_that_hangs_is_named(layer: Layer) -> None:
    """A sound server that is stopped leaves whoever opens its microphone waiting for ever."""
    with VirtualSound() as sound:
        (server,) = (one for one in psutil.Process().children() if one.name() == "pulseaudio")
        server.suspend()
        try:
            found = heard(layer, sound, link="sharing")
        finally:
            server.resume()
        assert found.cause == "microphone-stalled", found
        assert found.commands == ()
        assert heard(layer, sound, link="sharing").status == "ok"


def heard(
    layer: Layer, sound: VirtualSound, before: str = "true", link: str = "portaudio", **environment: str
) -> Finding:
    """One link, where the default is a sound server's microphone."""
    layer.run("rm -f /etc/asound.conf /etc/alsa/conf.d/40-pinna.conf")
    (layer.home / ".asoundrc").write_text((sound.folder / "asound.conf").read_text())
    server = {"PULSE_SERVER": sound.server, "XDG_RUNTIME_DIR": str(sound.folder)}
    return layer.link(link, before, **server, **environment)
