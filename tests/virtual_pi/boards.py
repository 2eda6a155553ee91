"""What QEMU is to be, for each board."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from tests.virtual_pi.base import LABEL, Base


@dataclass(frozen=True)
class Virt:
    """Virtio devices, any memory size; 512 MB is a Zero 2 W's budget.

    One processor: two that are emulated on a busy host wait for the locks of whichever the host does not run.
    That cost four times the work for the same second of sound, and Debian boots no faster with two.
    """

    memory_mb: int = 512
    cpus: int = 1

    def arguments(self, base: Base, disk: Path) -> list[str]:
        if platform.machine() == "aarch64" and os.access("/dev/kvm", os.R_OK | os.W_OK):
            processor = ["-accel", "kvm", "-cpu", "host"]
        else:
            processor = ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "cortex-a53"]
        return [
            *("-M", "virt", *processor, "-smp", str(self.cpus), "-m", str(self.memory_mb)),
            *("-kernel", str(base.kernel), "-initrd", str(base.initrd)),
            *("-drive", f"file={disk},format=qcow2,if=none,id=disk,cache=unsafe,werror=stop"),
            *("-device", "virtio-blk-device,drive=disk", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci"),
        ]

    kernel = ""
    console = "ttyAMA0"
    serials = 1
    network_is_usb = False


@dataclass(frozen=True)
class Raspi3b:
    """A Raspberry Pi 3 Model B with Debian's own device tree: SD card, USB network, its watchdog.

    One of its four processors is started, for the reason that `Virt` has one; the others stay off: waiting
    in the firmware's loop, they took three quarters of what the host had for the board.
    """

    def arguments(self, base: Base, disk: Path) -> list[str]:
        tree = base.device_tree("bcm2837-rpi-3-b.dtb")
        return [
            *("-M", "raspi3b", "-dtb", str(tree), "-accel", "tcg,thread=multi,tb-size=256"),
            *("-global", "bcm2837.enabled-cpus=1"),
            *("-kernel", str(base.kernel), "-initrd", str(base.initrd)),
            *("-drive", f"file={disk},format=qcow2,if=sd,cache=unsafe"),
            *("-device", "usb-net,netdev=net"),
        ]

    kernel = "maxcpus=1"
    console = "ttyS1,115200"  # the mini UART; the other one is for Bluetooth
    serials = 2
    network_is_usb = True  # on a busy host its USB controller sometimes misses that it is there


Board = Virt | Raspi3b


def kernel_command_line(board: Board, more: str) -> str:
    return f"console={board.console} root=LABEL={LABEL} rw loglevel=4 net.ifnames=0 {board.kernel} {more}"
