"""The machine itself: files, ports, reboot, power cut, snapshot, a fleet, the other board."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from tests.virtual_pi.base import Base
from tests.virtual_pi.boards import Raspi3b, Virt
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.machine import Machine


def test_a_fresh_disk_holds_only_differences(base_system: Base, tmp_path: Path) -> None:
    disk = base_system.fresh_disk(tmp_path / "disk.qcow2")
    command = ["qemu-img", "info", "--output=json", str(disk)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert Path(told["backing-filename"]) == base_system.disk.resolve()
    assert told["virtual-size"] == base_system.disk.stat().st_size
    assert disk.stat().st_size < 1 << 20


def test_it_is_debian_arm64_with_half_a_gigabyte(pi: Machine) -> None:
    assert pi.run("uname -m").stdout.strip() == "aarch64"
    assert "trixie" in pi.run("cat /etc/os-release").stdout
    memory = int(pi.run("awk '/MemTotal/ {print $2}' /proc/meminfo").stdout)
    assert 400_000 < memory < 512 * 1024
    assert int(pi.run("df --output=avail -B1 / | tail -n 1").stdout) > 4 << 30
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


def test_a_port_of_the_guest_is_forwarded(pi: Machine) -> None:
    pi.run("nohup python3 -m http.server -d /etc 8000 >/dev/null 2>&1 </dev/null &")
    port = pi.forward(8000)
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/hostname", timeout=10) as answer:
                assert answer.read() == b"pi\n"
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    ssh_port = pi.ssh_port
    pi.restore()
    assert (pi.forward(8000), pi.ssh_port) == (port, ssh_port)


@pytest.mark.full
def test_a_fleet_survives_a_reboot_and_a_power_cut(base_system: Base) -> None:
    with contextlib.ExitStack() as stage:
        fleet = [stage.enter_context(Machine(base_system, Virt(memory_mb=256))) for _ in range(3)]
        for machine in fleet:
            machine.start()
        for machine in fleet:
            machine.wait_ssh(600)
        assert len({machine.ssh_port for machine in fleet}) == 3
        assert len({machine.run("cat /etc/machine-id").stdout for machine in fleet}) == 3
        ports = [machine.ssh_port for machine in fleet]
        boots = [boot_id(machine) for machine in fleet]
        one, two, three = fleet
        two.run("echo synced > /root/synced; sync")
        two.power_cut()
        two.start()
        one.run("echo kept > /root/kept")
        one.reboot(600)
        two.wait_ssh(600)
        assert one.run("cat /root/kept").stdout == "kept\n"
        assert two.run("cat /root/synced").stdout == "synced\n"
        assert [machine.ssh_port for machine in fleet] == ports
        assert boot_id(one) != boots[0]
        assert boot_id(two) != boots[1]
        assert boot_id(three) == boots[2]
    assert not any(machine.folder.exists() for machine in fleet)


def boot_id(machine: Machine) -> str:
    return machine.run("cat /proc/sys/kernel/random/boot_id").stdout


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_raspi3b_is_a_raspberry_pi(base_system: Base) -> None:
    with Machine(base_system, Raspi3b()) as board:
        board.start()
        board.wait_ssh(800)
        board.run("systemctl is-system-running --wait", check=False, timeout=300)
        assert board.run("tr -d '\\0' < /proc/device-tree/model").stdout.startswith("Raspberry Pi 3 Model B")
        assert board.run("systemctl --failed --no-legend --plain").stdout == ""
