"""The appliance's root file system: what ansible/site.yml makes of the base, sealed, as one canonical tar.

The playbook runs over ssh in an emulated machine that has no init system, with `pinna_target: image`. Nothing
of the build is left to remove but what `seal.sh` names; there is no builder's Python in it at any time.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from image.debian import Base, mend
from image.errors import BadInputError, ImageError
from image.programs import ask, run, tail
from image.progress import step
from tests.virtual_pi.base import overlay
from tests.virtual_pi.processes import need

from image import cache, emulator, tree

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parent
_PROVISION = _HERE / "provision.sh"
_SEAL = _HERE / "seal.sh"
_OUTPUT_BYTES = 4 << 30  # sparse; a tar of the system
_PLAYBOOK_SECONDS = 3600.0
_SEAL_SECONDS = 1200.0


def appliance(base: Base, *, docker: bool, settings: Path | None, epoch: int, again: bool = False) -> Path:
    """The tar, from the cache or made now. `settings`: a file of role variables, of the operator's.

    What the playbook made is a stage by itself: sealing it anew takes minutes less. `again` does both anew.
    """
    variables = {
        "pinna_target": "image",
        "pinna_device_id": "pinna",  # role firstboot gives each device its own
        "pinna_docker": docker,
        "base_hostname": "pinna",
        "hardening_ssh_keys_only": "always",
    }
    if settings is not None and not settings.is_file():
        raise BadInputError(
            f"{settings} is no file", hint="Give a YAML file of role variables, or leave it out"
        )
    parts = cache.files(_CHECKOUT / "ansible", _CHECKOUT / "agent" / "pinna")
    recipe = [_PROVISION, *(_CHECKOUT / name for name in ("asound.conf", "requirements.lock"))]
    key = cache.digest(base.folder.name, variables, *parts, *recipe, *([settings] if settings else []))
    sealed = cache.digest(key, epoch, _SEAL, _HERE / "tree.py")
    if again:
        cache.forget("appliance", key)
        cache.forget("system", sealed)
    made = cache.stage("appliance", key, lambda work: _provision(work, base, variables, settings))
    return cache.stage("system", sealed, lambda work: _seal(work, Base(made), epoch)) / "root.tar"


def _provision(work: Path, base: Base, variables: dict[str, object], settings: Path | None) -> None:
    """Fills `work` as a Base: the disk on which the playbook has run, and the kernel that starts it."""
    disk = work / "disk.qcow2"
    with _machine(work, base, disk) as machine, step("running ansible/site.yml in it"):
        _play(work, machine.port, variables, settings)
    # Whole, not as what differs from the base: that one may be built anew some day.
    ask([need("qemu-img", "qemu-utils"), "convert", "-O", "raw", str(disk), str(Base(work).disk)])
    disk.unlink()
    mend(Base(work).disk)
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(base.folder / name, work / name)


def _seal(work: Path, provisioned: Base, epoch: int) -> None:
    disk, output = work / "disk.qcow2", work / "output.raw"
    with output.open("wb") as file:
        file.truncate(_OUTPUT_BYTES)
    third = emulator.disk_options(output, "output", "cache=unsafe,werror=report")
    with _machine(work, provisioned, disk, third) as machine, step("sealing the system"):
        machine.run(f"sh -s {epoch}", stdin=_SEAL.read_bytes(), timeout=_SEAL_SECONDS)
    with step("putting the system in its canonical form"):
        tree.canonical(output, work / "root.tar", epoch=epoch)
    disk.unlink()
    output.unlink()


@dataclass(frozen=True)
class _Machine:
    """An emulated machine without an init system; root's ssh is at 127.0.0.1, `port`."""

    key: Path
    port: int

    def run(self, command: str, *, stdin: bytes = b"", timeout: float = 60.0) -> None:
        """Raises ImageError with what the command said unless it succeeds."""
        full: Sequence[str] = [
            *(need("ssh", "openssh-client"), "-F", "none", "-i", str(self.key), "-p", str(self.port)),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "BatchMode=yes", "root@127.0.0.1", command),
        ]
        try:
            done = subprocess.run(full, input=stdin, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise ImageError(
                f"`{command}` was not done after {timeout:.0f} s", hint="Is the host very busy?"
            ) from None
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise ImageError(
                f"`{command}` ended with {done.returncode}", hint="It says why", console=said[-2000:]
            )


@contextmanager
def _machine(work: Path, base: Base, disk: Path, more: Sequence[str] = ()) -> Iterator[_Machine]:
    """`base`, started on the new `disk`, which holds what changes; off again, in order, after the block."""
    overlay(base.disk, "raw", disk)
    key, console = work / "key", work / "console"
    make = [need("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-C", "image", "-f"]
    ask([*make, str(key)])
    public = base64.b64encode(key.with_suffix(".pub").read_bytes()).decode()
    port = _free_port()
    network = ("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22")
    devices = ("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci")
    words = f"pinna.now={int(time.time())} pinna.key={public}"
    with emulator.machine(
        base.kernel, disk, _PROVISION, console=console, words=words, more=(*more, *network, *devices)
    ) as running:
        with step("starting the emulated machine"):
            running.wait_for("pinna: ready")
            _wait_for_ssh(port, running)
        machine = _Machine(key, port)
        yield machine
        machine.run("kill $(cat /run/sshd.pid)")
        running.wait_for("pinna: ssh ended")
        running.emulator.wait(120)
    key.unlink()
    key.with_suffix(".pub").unlink()


def _play(work: Path, port: int, variables: dict[str, object], settings: Path | None) -> None:
    options = (
        "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR -o IdentitiesOnly=yes"
    )
    host = {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": "root",
        "ansible_become": False,  # sudo would drop SYSTEMD_OFFLINE, which provision.sh sets
        "ansible_ssh_private_key_file": str(work / "key"),
        "ansible_ssh_common_args": options,
        "ansible_remote_tmp": "/tmp/ansible",  # memory  # noqa: S108  (the emulated machine's own)
    }
    inventory = work / "inventory.json"
    inventory.write_text(json.dumps({"pinna": {"hosts": {"image": host}}}))
    given = work / "variables.json"
    given.write_text(json.dumps(variables))
    playbook = Path(sys.executable).with_name("ansible-playbook")
    if not playbook.exists():
        raise ImageError("Ansible is not installed", hint="Run: make control")
    command = [
        *(str(playbook), "--inventory", str(inventory), str(_CHECKOUT / "ansible/site.yml")),
        *(("--extra-vars", f"@{settings}") if settings else ()),
        *("--extra-vars", f"@{given}"),
    ]
    log = work / "playbook.log"
    run(command, log=log, timeout=_PLAYBOOK_SECONDS, hint="The playbook says why")
    recap = re.search(r"image\s+: ok=(\d+).*", tail(log))
    if recap is None:
        raise ImageError("the playbook ended without a result", hint="Run it again", console=tail(log))


def _wait_for_ssh(port: int, running: emulator.Running) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and running.emulator.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise running.failure("the emulated machine's ssh does not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
