"""How long `pinna doctor` takes: this machine, and a hundred hosts at once; and whose processor that costs.

Over loopback this machine is all the hosts as well, so the clock does not tell what a fleet takes. Seconds
of processor are told apart: the operator's are `pinna doctor` with its ssh clients, the hosts' are sshd with
what it starts. Hosts that answer a saved snapshot after ANSWER_SECONDS are nearest to a fleet, which has
processors of its own.
"""

from __future__ import annotations

import getpass
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

Row = dict[str, Any]

HEALTHY = Path(__file__).parents[1] / "unit/doctor/snapshots/healthy.json"
ANSWER_SECONDS = 5
LOOK_SECONDS = 60  # a hundred looks on one machine hinder each other
SSHD = Path("/usr/sbin/sshd")
SIMULATED = 'while [ "$1" != -- ]; do shift; done; shift 2; sleep 0.3; exec sh -c "$*"'
"""In place of ssh: this machine again and again, each time after 0.3 s, as a handshake takes."""

_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/server
AuthorizedKeysFile {folder}/client.pub
StrictModes no
PasswordAuthentication no
PidFile none
LogLevel FATAL
MaxStartups {hosts}
# So bash reads no ~/.bashrc: it may hold more than a Pi's.
SetEnv SHLVL=1
{more}
"""
_CLIENT = """\
Host *
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/client
    IdentitiesOnly yes
    UserKnownHostsFile /dev/null
    StrictHostKeyChecking no
"""


def run(quick: bool) -> list[dict[str, Any]]:
    hosts = 10 if quick else 100
    many = [f"--host=pi{number}" for number in range(hosts)]
    rows = [_row("one machine", 1, [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if SSHD.exists():
            rows.append(_by_ssh(f"{hosts} hosts by ssh, all on this machine", hosts, many, folder))
            snapshot = folder / "snapshot.json"
            snapshot.write_text(json.dumps(json.loads(HEALTHY.read_text())))
            saved = f"ForceCommand cat >/dev/null; sleep {ANSWER_SECONDS}; cat {snapshot}"
            slow = f"{hosts} hosts by ssh that answer after {ANSWER_SECONDS} s"
            rows.append(_by_ssh(slow, hosts, many, folder, saved))
        else:
            ssh = folder / "ssh"
            ssh.write_text(f"#!/bin/sh\n{SIMULATED}\n")
            ssh.chmod(0o755)
            path = {"PATH": f"{folder}:{os.environ['PATH']}"}
            rows.append(_row(f"{hosts} hosts, ssh simulated (no openssh-server)", hosts, many, path))
    return rows


def _row(name: str, hosts: int, arguments: list[str], environment: dict[str, str] | None = None) -> Row:
    began, before = time.perf_counter(), _processor()
    command = [sys.executable, "-m", "pinna", "doctor", "--json", f"--seconds={LOOK_SECONDS}", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, check=False
    )
    took = time.perf_counter() - began
    assert done.returncode in (0, 13, 14), done.stderr.decode()
    lost = [report["error"] for report in json.loads(done.stdout) if report["error"]]
    assert not lost, f"{name}: {len(lost)} not looked at: {lost[0]}"
    each = round((_processor() - before) / hosts, 3)
    return {"doctor": name, "s": round(took, 2), "operator's processor, s for each host": each}


def _by_ssh(name: str, hosts: int, arguments: list[str], folder: Path, more: str = "") -> Row:
    with _server(folder, hosts, more) as options:
        row = _row(name, hosts, [*arguments, "--ssh", options])
        before = _processor()
    return {**row, "hosts', s for each": round((_processor() - before) / hosts, 3)}


def _processor() -> float:
    """Seconds of it that children which have ended took, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _server(folder: Path, hosts: int, more: str) -> Iterator[str]:
    """An sshd on loopback that lets this user in, under any name; the options to reach it by."""
    for name in ("server", "client"):
        if not (folder / name).exists():
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists; Debian's unit makes it, too
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder, port=port, hosts=hosts, more=more))
    (folder / "config").write_text(_CLIENT.format(folder=folder, port=port, user=getpass.getuser()))
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"])
    try:
        eventually(lambda: _listens(port), what="sshd listens")
        yield f"-F {folder}/config"
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
