"""The way to a host: programs go there and answer with one JSON object, over one shared ssh connection."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import zlib
from functools import partial
from pathlib import Path
from typing import Any, cast

from testinfra.backend.ansible import AnsibleBackend
from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from pinna.doctor.looking import SOURCE

REMOTE = Path(__file__).parent / "remote"
CONNECT_SECONDS = 60  # until sshd's greeting, for which a busy Pi needs some
PERSIST_SECONDS = 600
LOOK_SECONDS = 60  # at most; an emulated Pi needs twenty
OPTIONS = "-o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o LogLevel=ERROR"

_AS_ROOT = '$([ "$(id -u)" = 0 ] || echo sudo -n)'
_BOOTSTRAP = """\
import sys, types
name = "tests.target.remote.common"
sys.modules[name] = types.ModuleType(name)
exec(compile({common!r}, "common.py", "exec"), vars(sys.modules[name]))
exec(compile({program!r}, {file!r}, "exec"))
"""

_CURES = {
    "connection refused": "Is it up, does sshd run there, and is the port right?",
    "timed out": "Is it powered and on the network, and is the address right?",
    "no route to host": "Is it powered and on the network, and is the address right?",
    "network is unreachable": "Is this machine on that network?",
    "could not resolve": "Is the name right? Try its IP address.",
    "name or service not known": "Is the name right? Try its IP address.",
    "permission denied": "Is the user right, and is your key there (ssh-copy-id)? Only keys are tried.",
    "host key verification failed": "Log in once with ssh, and compare its key.",
    "identification has changed": "Was it installed anew? Then ssh-keygen -R and the host's name.",
    "password is required": "Let this user use sudo without a password, or log in as root.",
    "terminal is required": "Let this user use sudo without a password, or log in as root.",
    "not in the sudoers": "Log in as a user who may use sudo, or as root.",
    "sudo: not found": "Log in as root: there is no sudo.",
    "python3: not found": "Install python3 there; site.yml needs it too.",
    "operation not permitted": "chroot takes root: use sudo.",
    "cannot change root directory": "Is the image's second partition mounted there?",
    "exec format error": "It is for another processor: install qemu-user-static and binfmt-support.",
    "failed to run command": "Is it the root of a system? Mount the image's second partition there.",
}


class Unreachable(Exception):  # noqa: N818  a state of the host rather than an error of the tests
    """The host cannot be examined. The message says why, and what helps."""


class Contact:
    """One host. `ask` and `hang_up` are for one thread at a time."""

    def __init__(self, host: Host, control_path: Path) -> None:
        """`control_path`: where the socket of the shared connection is to be; short, in a private folder."""
        self.name = name(host)
        self._host = host
        self._control_path = control_path
        self._ssh = _ssh(host)
        backend = self._ssh or host.backend
        backend.run_local = partial(_run_local, backend)
        if self._ssh is not None:
            extra = self._ssh.ssh_extra_args or ""
            self._ssh.ssh_extra_args = f"{OPTIONS} {extra}".strip()
            self._ssh.timeout = CONNECT_SECONDS
            self._ssh.controlpath = str(control_path)
            self._ssh.controlpersist = PERSIST_SECONDS
            self._ssh.ssh_identity_file = _beside_inventory(host, self._ssh.ssh_identity_file)

    def ask(self, program: str) -> dict[str, Any]:
        """Run remote/`program`.py there, as root, and return its answer. Raises Unreachable."""
        return self._answer(packed(program), "python3 -I -S")

    def look(self) -> dict[str, Any]:
        """The snapshot that `pinna doctor` would judge. Raises Unreachable."""
        return self._answer(_deflated(SOURCE.read_text()), "python3", f"--seconds={LOOK_SECONDS}")

    def _answer(self, program: str, python: str, *arguments: str) -> dict[str, Any]:
        if self._ssh is not None and self._ssh.host.password:
            raise Unreachable(
                f"{self.name} is given with a password, which testinfra would show in the list of processes. "
                "Bring your key there (ssh-copy-id), and leave the password out."
            )
        unpack = shlex.join(["-c", _UNPACK, *arguments])
        command = f"echo {program} | base64 -d | {_AS_ROOT} {python} {unpack}"
        try:
            done = self._host.run(command)
        except RuntimeError as error:  # ssh itself failed
            result = error.args[0] if error.args else None
            raise self._unreachable(getattr(result, "stderr", "") or str(error)) from None
        lines = done.stdout_bytes.decode(errors="replace").splitlines()
        if done.rc or not lines:
            raise self._unreachable(done.stderr_bytes.decode(errors="replace"))
        try:
            return cast(dict[str, Any], json.loads(lines[-1]))
        except ValueError:
            raise Unreachable(
                f"{self.name} cannot be examined: it answers {lines[-1][:80]!r}, which is no JSON. "
                "Does something print there when a shell starts or ends, such as ~/.bashrc?"
            ) from None

    def hang_up(self) -> None:
        """End the shared connection, if there is one."""
        if self._ssh is not None and self._control_path.exists():
            command = ["ssh", "-F", "none", "-o", f"ControlPath={self._control_path}", "-O", "exit", "any"]
            subprocess.run(command, capture_output=True, timeout=30, check=False)

    def _unreachable(self, said: str) -> Unreachable:
        reason = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no answer")
        cure = next((cure for sign, cure in _CURES.items() if sign in said.lower()), "")
        return Unreachable(f"{self.name} cannot be examined: {reason.rstrip('.')}. {cure}".strip())


def _run_local(backend: BaseBackend, command: str, *arguments: str) -> CommandResult:
    """As testinfra's own, but with a copy of the environment.

    Meanwhile pytest names each test in ours, in another thread: a child that starts in that moment may find
    the list of it gone (`OSError: [Errno 14] Bad address: '/bin/sh'`).
    """
    line = backend.encode(backend.quote(command, *arguments))
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ},
        check=False,
    )
    return backend.result(done.returncode, line, done.stdout, done.stderr)


_UNPACK = "import sys, zlib; exec(zlib.decompress(sys.stdin.buffer.read()))"


def packed(program: str) -> str:
    """remote/`program`.py with what it imports, as base64 of deflated Python."""
    sources = {at: (REMOTE / f"{at}.py").read_text() for at in ("common", program)}
    whole = _BOOTSTRAP.format(common=sources["common"], program=sources[program], file=f"{program}.py")
    return _deflated(whole)


def _deflated(source: str) -> str:
    return base64.b64encode(zlib.compress(source.encode(), 9)).decode()


def name(host: Host) -> str:
    """What the operator calls it: its name in the inventory, or user@address:port."""
    backend = host.backend
    if isinstance(backend, SshBackend):
        user = f"{backend.host.user}@" if backend.host.user else ""
        port = f":{backend.host.port}" if backend.host.port else ""
        return f"{user}{backend.host.name}{port}"
    return str(backend.get_hostname())


def _beside_inventory(host: Host, file: str | None) -> str | None:
    """The file, where the inventory's value was written as beside it; testinfra fills in no templates."""
    inventory = getattr(host.backend, "ansible_inventory", None)
    if file is None or inventory is None:
        return file
    return re.sub(r"\{\{\s*inventory_dir\s*\}\}", lambda _: str(Path(inventory).resolve().parent), file)


def _ssh(host: Host) -> SshBackend | None:
    """What carries the commands, also of a host from an inventory; None where it is not ssh."""
    backend = host.backend
    if isinstance(backend, AnsibleBackend) and not backend.force_ansible:
        inner = backend.ansible_runner.get_host(
            backend.host, ssh_config=backend.ssh_config, ssh_identity_file=backend.ssh_identity_file
        )
        backend = inner.backend if inner is not None else backend
    return backend if isinstance(backend, SshBackend) else None
