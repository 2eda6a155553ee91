"""What goes wrong ends in one message, with the console's tail, in a bounded time, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.virtual_pi.base import Base
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.server import UsbipServer


def test_a_guest_that_panics_says_so(base_system: Base) -> None:
    with Machine(base_system, kernel_arguments="init=/nonexistent") as machine:
        machine.start()
        with pytest.raises(VirtualPiError, match="kernel panicked") as caught:
            machine.wait_ssh(300)
    assert "can't execute '/nonexistent'" in str(caught.value)
    assert not machine.folder.exists()


def test_a_guest_that_hangs_says_how_far_it_came(base_system: Base) -> None:
    with Machine(base_system, kernel_arguments="init=/usr/bin/cat") as machine:
        machine.start()
        reached = "starting /usr/bin/cat"
        deadline = time.monotonic() + 120
        while reached not in machine.console():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(VirtualPiError, match="ssh did not answer within 1 s") as caught:
            machine.wait_ssh(1)
    assert reached in str(caught.value)
    assert not machine.folder.exists()


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, base_system: Base) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(VirtualPiError, match="apt install qemu-system-arm"):
        Machine(base_system)


def test_a_busy_port_is_named(base_system: Base) -> None:
    with UsbipServer() as server, pytest.raises(VirtualPiError, match="in use"):
        UsbipServer(port=server.port)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = pytest.raises(VirtualPiError, match=rf"a port is taken.*127.0.0.1:{port}")
        with Machine(base_system, ssh_port=port) as machine, refused:
            machine.start()
        assert not machine.folder.exists()


BOOT = """
import os, tempfile
from tests.virtual_pi.base import base
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.machine import Machine
try:
    with Machine(base()) as machine:
        machine.start()
        machine.wait_ssh(300)
except VirtualPiError as error:
    print(error)
print("left behind:", os.listdir(tempfile.gettempdir()))
"""
BUILD = """
import os
from tests.virtual_pi.base import base
from tests.virtual_pi.cache import cache_folder
from tests.virtual_pi.errors import VirtualPiError
try:
    base()
except VirtualPiError as error:
    print(error)
print("left behind:", [name for name in os.listdir(cache_folder()) if not name.startswith(".lock-")])
"""


def on_a_small_disk(script: str, variable: str, size: str) -> str:
    """What `script` prints when the folder that `variable` names is a disk of `size`, which goes with it."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    with tempfile.TemporaryDirectory() as folder:  # a short path: sockets are to be made there
        mount = f'mount -t tmpfs -o size={size} small {folder} && {variable}={folder} exec "$0" "$@"'
        command = ["unshare", "--mount", *user, "sh", "-c", mount, sys.executable, "-c", script]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=400).stdout.decode()


@pytest.mark.parametrize(
    ("size", "message"),
    [("16k", "cannot make a disk"), ("2m", "its disk cannot be written")],
    ids=["before the boot", "in the middle of it"],
)
def test_a_full_disk_is_named(base_system: Base, size: str, message: str) -> None:
    said = on_a_small_disk(BOOT, "TMPDIR", size)
    assert message in said.splitlines()[0]
    assert "full?" in said.splitlines()[0]
    assert said.splitlines()[-1] == "left behind: []"


def test_too_little_space_for_the_base_system_is_named() -> None:
    said = on_a_small_disk(BUILD, "XDG_CACHE_HOME", "64m").splitlines()
    assert "64 MB free, the base system needs" in said[0]
    assert said[-1] == "left behind: []"


HOLD = """
import signal, time
from tests.virtual_pi.base import base
from tests.virtual_pi.machine import Machine
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
with Machine(base()) as machine:
    machine.start()
    print(machine._qemu.pid, machine.folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.full)])
def test_nothing_stays_when_we_are_ended(base_system: Base, how: signal.Signals) -> None:
    """Ctrl-C cleans up at once; after a kill, QEMU goes at once and the folder with the next machine."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert holder.stdout is not None
    with holder.stdout as said:
        qemu, folder = said.readline().decode().split()
        holder.send_signal(how)
        holder.wait(60)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{qemu}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if how is signal.SIGKILL:
        assert Path(folder).exists()
        Machine(base_system).stop()
    assert not Path(folder).exists()
