"""The machine itself: files, reboot, power cut, snapshot, a fleet, and failures that name themselves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.virtual_pi.base import Base
from tests.virtual_pi.boards import Raspi3b, Virt
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.server import UsbipServer


def test_a_fresh_disk_takes_under_a_second(base_system: Base, tmp_path: Path) -> None:
    began = time.monotonic()
    base_system.fresh_disk(tmp_path / "disk.qcow2")
    assert time.monotonic() - began < 1.0


def test_it_is_debian_arm64_with_half_a_gigabyte(pi: Machine) -> None:
    assert pi.run("uname -m").stdout.strip() == "aarch64"
    assert "trixie" in pi.run("cat /etc/os-release").stdout
    memory = int(pi.run("awk '/MemTotal/ {print $2}' /proc/meminfo").stdout)
    assert 400_000 < memory < 512 * 1024
    assert pi.run("systemctl --failed --no-legend --plain").stdout == ""


def test_files_go_in_and_out(pi: Machine, tmp_path: Path) -> None:
    data = bytes(range(256)) * 999
    (tmp_path / "in").write_bytes(data)
    pi.put(tmp_path / "in", "/root/it has a space")
    assert pi.get("/root/it has a space", tmp_path / "out").read_bytes() == data


def test_a_failing_command_raises_with_what_it_said(pi: Machine) -> None:
    with pytest.raises(VirtualPiError, match=r"ended with 7.*because"):
        pi.run("echo because >&2; exit 7")
    assert pi.run("exit 7", check=False).returncode == 7


def test_a_hanging_command_ends_in_time(pi: Machine) -> None:
    with pytest.raises(VirtualPiError, match="not done within 3 s"):
        pi.run("sleep 60", timeout=3)


def test_restore_forgets(pi: Machine) -> None:
    pi.run("touch /root/later; sync")
    pi.restore()
    assert pi.run("test -e /root/later", check=False).returncode == 1
    assert abs(float(pi.run("date +%s").stdout) - time.time()) < 10


def test_two_at_once_survive_a_reboot_and_a_power_cut(base_system: Base) -> None:
    with Machine(base_system, Virt(memory_mb=256)) as one, Machine(base_system, Virt(memory_mb=256)) as two:
        one.start()
        two.start()
        assert one.ssh_port != two.ssh_port
        one.wait_ssh(600)
        two.wait_ssh(600)
        assert one.run("cat /etc/machine-id").stdout != two.run("cat /etc/machine-id").stdout
        one.run("echo kept > /root/kept")
        one.reboot(600)
        two.run("echo synced > /root/synced; sync")
        two.power_cut()
        two.start()
        two.wait_ssh(600)
        assert one.run("cat /root/kept").stdout == "kept\n"
        assert two.run("cat /root/synced").stdout == "synced\n"
        folders = (one.folder, two.folder)
    assert not any(folder.exists() for folder in folders)


def test_a_guest_that_panics_says_so(base_system: Base, tmp_path: Path) -> None:
    empty = tmp_path / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(empty), "1G"], check=True)
    with Machine(base_system, Virt(), disk=empty) as machine:
        machine.start()
        with pytest.raises(VirtualPiError, match=r"panicked|QEMU ended") as caught:
            machine.wait_ssh(300)
    assert "no root disk LABEL=PINNA" in str(caught.value)


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, base_system: Base) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(VirtualPiError, match="apt install qemu-system-arm"):
        Machine(base_system)


def test_a_busy_port_is_named() -> None:
    with UsbipServer() as server, pytest.raises(VirtualPiError, match="in use"):
        UsbipServer(port=server.port)


def test_raspi3b_is_a_raspberry_pi(base_system: Base) -> None:
    with Machine(base_system, Raspi3b()) as board:
        board.start()
        board.wait_ssh(500)
        board.run("systemctl is-system-running --wait", check=False, timeout=300)
        assert board.run("tr -d '\\0' < /proc/device-tree/model").stdout.startswith("Raspberry Pi 3 Model B")
        assert board.run("systemctl --failed --no-legend --plain").stdout == ""


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


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
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
