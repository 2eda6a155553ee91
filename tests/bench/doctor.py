"""How long `pinna doctor` takes: this machine, and a hundred hosts at once."""

from __future__ import annotations

import getpass
import os
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
MaxStartups {sessions}
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
    rows = [_row("one machine", [], {})]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = [word for number in range(hosts) for word in ("--host", f"pi{number}")]
        if SSHD.exists():
            with _server(folder, hosts) as options:
                rows.append(_row(f"{hosts} hosts, each by ssh over loopback", [*many, "--ssh", options], {}))
        else:
            ssh = folder / "ssh"
            ssh.write_text(f"#!/bin/sh\n{SIMULATED}\n")
            ssh.chmod(0o755)
            path = {"PATH": f"{folder}:{os.environ['PATH']}"}
            rows.append(_row(f"{hosts} hosts, ssh simulated (no openssh-server)", many, path))
    return rows


def _row(name: str, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "pinna", "doctor", "--json", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    took = time.perf_counter() - began
    assert done.returncode in (0, 13, 14), done.stderr.decode()
    assert b"no way into" not in done.stdout, done.stdout.decode()
    return {"doctor": f"{name}, s", "value": round(took, 2)}


@contextmanager
def _server(folder: Path, sessions: int) -> Iterator[str]:
    """An sshd on loopback that lets this user in, under any name; the options to reach it by."""
    for name in ("server", "client"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(make, check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists; Debian's unit makes it, too
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder, port=port, sessions=sessions))
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
