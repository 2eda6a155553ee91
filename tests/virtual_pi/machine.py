"""A virtual Pi: start it, talk to it over ssh, cut its power, freeze it in a snapshot and thaw it.

    with Machine(base(), Virt()) as pi:
        pi.start()
        pi.wait_ssh()
        pi.run("uname -m")

Every machine has a folder of its own (disk, key, sockets, console) and a free port for ssh, which it keeps
for life; both are gone after `stop`, which leaving the `with` block calls. Should this process be killed, the
kernel ends QEMU, and the next machine made on this host removes the folder. Over ssh, the user is root, the
key is `key`, the address is 127.0.0.1 port `ssh_port`. The guest reaches ports of the host's loopback at
`GATEWAY`; `forward` leads from the host to a port of the guest.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.virtual_pi.base import Base
from tests.virtual_pi.boards import Board, Virt, kernel_command_line
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.processes import need, spawn
from tests.virtual_pi.progress import say
from tests.virtual_pi.qmp import Qmp

GATEWAY = "10.0.2.2"  # the host, as a guest on QEMU's user network sees it
_CONSOLE_LINES = 40
_SSH = 22


class Machine:
    def __init__(
        self,
        base: Base,
        board: Board | None = None,
        *,
        disk: Path | None = None,
        ssh_port: int = 0,
        kernel_arguments: str = "",
    ) -> None:
        """`disk`, a qcow2, boots in place of a fresh copy of the base system; it is written to.

        `ssh_port` 0 takes a free one. `kernel_arguments` are added to the kernel's command line.
        """
        need("qemu-system-aarch64", "qemu-system-arm")
        _sweep()
        self._base = base
        self.board = board or Virt()
        self.folder = Path(tempfile.mkdtemp(prefix=f"pinna-pi-{os.getpid()}-"))
        self._qemu: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._kernel_arguments = kernel_arguments
        self._forwarded = {_SSH: ssh_port}  # guest's port: ours
        try:
            self.disk = disk or base.fresh_disk(self.folder / "disk.qcow2")
            self._make_key()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def key(self) -> Path:
        """The private key that opens root's account."""
        return self.folder / "key"

    @property
    def ssh_port(self) -> int:
        """On 127.0.0.1; known from the first `start` on."""
        return self._forwarded[_SSH]

    def _make_key(self) -> None:
        need("ssh-keygen", "openssh-client")
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "virtual pi", "-f", str(self.key)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise VirtualPiError(
                f"cannot make a key: {(done.stdout + done.stderr).strip()}",
                hint=f"is {self.folder.parent} full?",
            )

    def start(self, *, snapshot: str | None = None) -> None:
        """Power on, or resume from `snapshot`. Returns at once; `wait_ssh` tells when the guest answers."""
        assert self._qemu is None, "it runs already"
        public = self.key.with_suffix(".pub").read_text().strip()
        # systemd writes it to root's authorized_keys (tmpfiles.d/provision.conf); bookworm's reads no base64.
        credential = f'"systemd.set_credential=ssh.authorized_keys.root:{public}"'
        console, control = self.folder / "console", self.folder / "qmp"
        console.write_bytes(b"")
        command = ["qemu-system-aarch64", *self.board.arguments(self._base, self.disk)]
        command += ["-append", kernel_command_line(self.board, f"{credential} {self._kernel_arguments}")]
        forwards = [f"hostfwd=tcp:127.0.0.1:{ours}-:{guests}" for guests, ours in self._forwarded.items()]
        command += ["-netdev", ",".join(["user", "id=net", *forwards])]
        command += ["-serial", "null"] * (self.board.serials - 1) + ["-serial", f"file:{console}"]
        command += ["-display", "none", "-monitor", "none"]
        command += ["-qmp", f"unix:{control},server=on,wait=off"]
        command += ["-loadvm", snapshot] if snapshot else []
        with (self.folder / "qemu.log").open("wb") as log:
            self._qemu = spawn(command, output=log.fileno())
        deadline = time.monotonic() + 60
        while self._qmp is None:
            try:
                self._qmp = Qmp(control)
            except OSError:
                if self._qemu.poll() is not None or time.monotonic() > deadline:
                    raise self._failure("QEMU does not start") from None
                time.sleep(0.02)
        self._forwarded[_SSH] = self._host_port(_SSH)

    def forward(self, guest_port: int) -> int:
        """A port of 127.0.0.1 that leads to the running guest's TCP `guest_port`; the same one for life."""
        assert self._qmp is not None, "not started"
        if guest_port not in self._forwarded:
            trouble = self._qmp.monitor(f"hostfwd_add net tcp:127.0.0.1:0-:{guest_port}").strip()
            if trouble:
                raise self._failure(f"QEMU forwards nothing to port {guest_port}: {trouble}")
            self._forwarded[guest_port] = self._host_port(guest_port)
        return self._forwarded[guest_port]

    def _host_port(self, guest_port: int) -> int:
        assert self._qmp is not None
        table = self._qmp.monitor("info usernet")
        found = re.search(rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{guest_port}\b", table)
        if found is None:
            raise self._failure(f"QEMU forwards nothing to port {guest_port}")
        return int(found[1])

    def wait_ssh(self, timeout: float = 300.0) -> None:
        """Until the guest's ssh lets us in. Raises with the console's tail on panic, exit or time-out.

        A board whose USB network did not come up with it is switched off and on again, once, half-way.
        """
        deadline = time.monotonic() + timeout
        again = deadline - timeout / 2 if self.board.network_is_usb else deadline
        while True:
            self._check_alive()
            if self._banner() and self._ssh("true", timeout=60).returncode == 0:
                return
            if again < time.monotonic() < deadline and "multi-user.target" in self.console(500):
                say("its USB network did not come up: off and on again")
                self.power_cut()
                self.start()
                again = deadline
            if time.monotonic() > deadline:
                raise self._failure(f"the guest's ssh did not answer within {timeout:.0f} s")
            time.sleep(0.2)

    def _banner(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ssh_port), 5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def ssh_command(self) -> list[str]:
        """What a person types to get in; `run` uses the same, over one shared connection."""
        return [
            *("ssh", "-F", "none", "-i", str(self.key), "-p", str(self.ssh_port)),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
            "root@127.0.0.1",
        ]

    def _ssh(self, command: str, *, timeout: float, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        *options, target = self.ssh_command()
        shared = [
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={self.folder}/ssh",
            "-o",
            "ControlPersist=60",
        ]
        shared += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
        full = [*options, *shared, target, command]
        # Files, not pipes: the shared connection lives on in a process that would hold a pipe open.
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(stdin)
            given.seek(0)
            try:
                done = subprocess.run(full, stdin=given, stdout=out, stderr=err, timeout=timeout, check=False)
            except subprocess.TimeoutExpired:
                raise self._failure(f"`{command}` was not done within {timeout:.0f} s") from None
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(full, done.returncode, out.read(), err.read())

    def run(
        self, command: str, *, check: bool = True, timeout: float = 120.0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root. Raises when it hangs, and with `check` when it fails."""
        done = self._ssh(command, timeout=timeout, stdin=stdin.encode())
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode == 255:
            raise self._failure(f"the connection broke at `{command}`: {err.strip()}")
        if check and done.returncode:
            raise VirtualPiError(
                f"`{command}` ended with {done.returncode} in the guest", hint=(err or out).strip()[-2000:]
            )
        return subprocess.CompletedProcess(command, done.returncode, out, err)

    def put(self, local: Path, remote: str) -> None:
        done = self._ssh(f"cat > '{remote}'", timeout=300, stdin=local.read_bytes())
        if done.returncode:
            raise self._failure(f"cannot write {remote}: {done.stderr.decode(errors='replace').strip()}")

    def get(self, remote: str, local: Path) -> Path:
        done = self._ssh(f"cat '{remote}'", timeout=300)
        if done.returncode:
            raise self._failure(f"cannot read {remote}: {done.stderr.decode(errors='replace').strip()}")
        local.write_bytes(done.stdout)
        return local

    def reboot(self, timeout: float = 300.0) -> None:
        """In order, through the guest's init; returns when ssh answers again."""
        assert self._qmp is not None, "not started"
        self._check_alive()  # reads past what QEMU told of an earlier reset
        self._ssh("systemctl reboot", timeout=60)
        try:
            self._qmp.wait_event("RESET", timeout)
        except OSError:
            raise self._failure(f"the guest did not go down within {timeout:.0f} s") from None
        self._drop_connection()
        self.wait_ssh(timeout)

    def press_power_button(self) -> None:
        """For a tenth of a second of the machine's time. On `Virt`, it is line 3 of a GPIO chip."""
        assert self._qmp is not None, "not started"
        self._qmp.command("system_powerdown")

    def hold_power_button(self, seconds: float) -> None:
        """For so long and a tenth: pressed anew before it is let go, it stays pressed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.press_power_button()
            time.sleep(0.02)

    def power_cut(self) -> None:
        """Pull the power: no shutdown. What the guest did not flush is lost. `start` follows."""
        self._drop_connection()
        if self._qmp:
            self._qmp.close()
            self._qmp = None
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def snapshot(self, name: str = "booted") -> None:
        """Save the running machine, memory too. Unplug virtual USB devices first: sockets are not saved."""
        self._drop_connection()
        assert self._qmp is not None
        trouble = self._qmp.monitor(f"savevm {name}").strip()
        if trouble:
            raise self._failure(f"QEMU cannot save this machine: {trouble}")

    def restore(self, name: str = "booted") -> None:
        """Back to the snapshot, with the clock set to now; returns when ssh answers (seconds)."""
        self.power_cut()
        self.start(snapshot=name)
        self.wait_ssh(120)
        self.run(f"date -s @{time.time():.3f}")

    def stop(self) -> None:
        """Power off without ceremony, and remove every file of this machine."""
        self.power_cut()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _drop_connection(self) -> None:
        if (self.folder / "ssh").exists():
            command = [
                "ssh",
                "-F",
                "none",
                "-o",
                f"ControlPath={self.folder}/ssh",
                "-O",
                "exit",
                "root@127.0.0.1",
            ]
            subprocess.run(command, capture_output=True, timeout=30, check=False)

    def console(self, lines: int = _CONSOLE_LINES) -> str:
        """The last lines of the guest's console; those around a panic, if there was one."""
        said = (self.folder / "console").read_text(errors="replace").replace("\r", "").splitlines()
        panic = next((number for number, line in enumerate(said) if "Kernel panic" in line), None)
        if panic is not None:
            return "\n".join(said[max(0, panic - lines // 2) : panic + lines // 2])
        return "\n".join(said[-lines:])

    def _check_alive(self) -> None:
        assert self._qemu is not None, "not started"
        try:
            well = (
                self._qemu.poll() is None and "Kernel panic" not in self.console() and not self._disk_full()
            )
        except OSError:  # QEMU ends, or does not answer
            well = False
        if not well:
            raise self._failure("the guest died")

    def _disk_full(self) -> bool:
        """Whether QEMU stopped the guest because it could not write its disk (werror=stop)."""
        return self._qmp is not None and self._qmp.command("query-status")["status"] == "io-error"

    def _failure(self, what: str) -> VirtualPiError:
        """What is to be raised, with the reason where QEMU or the console knows it."""
        hint = "the console's last lines say more"
        said = (self.folder / "qemu.log").read_text(errors="replace").strip()
        if "Kernel panic" in self.console():
            what, hint = f"{what}: its kernel panicked", "see the console's last lines"
        elif "host forwarding" in said:
            what, hint = f"{what}: a port is taken", f"end what listens there, or choose another ({said})"
        elif self._qemu is not None and self._qemu.poll() is not None:
            what, hint = f"{what}: QEMU ended", said or "it said nothing"
        elif self._qmp is not None:
            try:
                if self._disk_full():
                    what, hint = f"{what}: its disk cannot be written", f"is {self.folder.parent} full?"
            except OSError:
                hint = "QEMU itself hangs"
        return VirtualPiError(what, hint=hint, console=self.console())


def _sweep() -> None:
    """Remove the folders of machines whose process was killed."""
    for folder in Path(tempfile.gettempdir()).glob("pinna-pi-*-*"):
        owner = folder.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
