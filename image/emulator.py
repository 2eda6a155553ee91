"""An emulated arm64 machine that runs one script as its first process: root's work without root.

It takes neither binfmt_misc, nor loop devices, nor KVM, and its translated code stays cached from one short
process to the next, which qemu-user throws away at each fork.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from image.errors import ImageError
from image.programs import tail
from tests.virtual_pi.processes import end, need, spawn

_SILENCE_SECONDS = 600.0
"""Longest that the machine may say nothing."""

STUB = b"#!/bin/sh\nexec sh /dev/vdb\n"
"""The first process, as a file of the root disk: it hands over to the script, which is the second disk."""

STUB_PATH = "var/lib/pinna-image/run"


@dataclass(frozen=True)
class Kernel:
    """What QEMU starts: Debian's kernel, and an initramfs that mounts the root disk."""

    image: Path
    initrd: Path


@dataclass(frozen=True)
class Running:
    """A machine that is on; its script's words appear in the file `console`."""

    emulator: Popen[bytes]
    console: Path

    def said(self) -> str:
        return self.console.read_text(errors="replace").replace("\r", "")

    def wait_for(self, words: str, *, each_second: Iterator[None] | None = None) -> None:
        """Until the console has `words`. Raises ImageError when it goes off without, or is silent."""
        size, heard_at = 0, time.monotonic()
        while words not in self.said():
            now, length = time.monotonic(), self.console.stat().st_size
            if length > size:
                size, heard_at = length, now
            if self.emulator.poll() is not None and words not in self.said():
                raise self.failure(f"the emulated machine went off without saying {words!r}")
            if now - heard_at > _SILENCE_SECONDS:
                raise self.failure(f"the emulated machine has said nothing for {_SILENCE_SECONDS:.0f} s")
            if each_second is not None:
                next(each_second, None)
            time.sleep(1)

    def failure(self, what: str) -> ImageError:
        hint = "its console says why; with the disk full or the network gone, mend that and try again"
        return ImageError(what, hint=hint, console=tail(self.console))


@contextmanager
def machine(
    kernel: Kernel, root: Path, script: Path, *, console: Path, words: str = "", more: Sequence[str] = ()
) -> Iterator[Running]:
    """Run `script` on the disk `root` (qcow2 or raw, by its suffix); leaving the block takes the power away.

    `words` go on the kernel's command line, `more` to QEMU.
    """
    disk = console.with_name("script.raw")
    disk.write_bytes(script.read_bytes().ljust(1 << 16, b"\n"))
    command = [
        *(need("qemu-system-aarch64", "qemu-system-arm"), "-M", "virt", "-cpu", "cortex-a53", "-smp", "1"),
        *("-m", "1536", "-accel", "tcg,thread=multi,tb-size=512", "-display", "none", "-no-reboot"),
        *("-kernel", str(kernel.image), "-initrd", str(kernel.initrd), "-serial", f"file:{console}"),
        *(
            "-append",
            f"console=ttyAMA0 root=/dev/vda rw init=/{STUB_PATH} quiet panic=-1 net.ifnames=0 {words}",
        ),
        # The disk is thrown away if the host fails, so nothing has to reach the host's before the end; with
        # that one full, the machine shall hear of it at once.
        *disk_options(root, "root", "cache=unsafe,discard=unmap,werror=report"),
        *disk_options(disk, "script", "read-only=on"),
        *more,
    ]
    console.write_text("")
    log = console.with_name("qemu.log")
    with log.open("wb") as output:
        emulator = spawn(command, output=output.fileno())
    try:
        yield Running(emulator, console)
    finally:
        end(emulator)
        disk.unlink()


def disk_options(path: Path, name: str, options: str) -> list[str]:
    """On the PCI bus, where disks have the order in which they are given."""
    kind = "qcow2" if path.suffix == ".qcow2" else "raw"
    return [
        *("-drive", f"file={path},format={kind},if=none,id={name},{options}"),
        *("-device", f"virtio-blk-pci,drive={name}"),
    ]
