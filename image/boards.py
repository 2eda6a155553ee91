"""Which Raspberry Pis the image is for: what each needs on the boot partition, and why others are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from image.errors import BadInputError, ImageError
from image.filesystems import ROOT_LABEL
from image.tree import File


@dataclass(frozen=True)
class Board:
    name: str
    device_tree: str
    firmware: tuple[str, ...]
    imager: str
    """What Raspberry Pi Imager calls its family (the key `devices` of its list)."""


_PI_3 = ("bootcode.bin", "fixup.dat", "start.elf")
_PI_4 = ("fixup4.dat", "start4.elf")

BOARDS = {
    "3b": Board("Raspberry Pi 3 Model B", "bcm2837-rpi-3-b.dtb", _PI_3, "pi3-64bit"),
    "3b+": Board("Raspberry Pi 3 Model B+", "bcm2837-rpi-3-b-plus.dtb", _PI_3, "pi3-64bit"),
    "4b": Board("Raspberry Pi 4 Model B", "bcm2711-rpi-4-b.dtb", _PI_4, "pi4-64bit"),
    "cm4": Board("Raspberry Pi Compute Module 4", "bcm2711-rpi-cm4-io.dtb", _PI_4, "pi4-64bit"),
}

_PI_5 = ("kernel_2712.img", "initramfs_2712")  # its firmware is not on the card
_ZERO_2 = (*_PI_3, "kernel8.img", "initramfs8")
_PI_400 = (*_PI_4, "kernel8.img", "initramfs8")

RASPIOS_BOARDS = {
    "zero2w": Board("Raspberry Pi Zero 2 W", "bcm2710-rpi-zero-2-w.dtb", _ZERO_2, "pi3-64bit"),
    "3a+": Board("Raspberry Pi 3 Model A+", "bcm2710-rpi-3-b-plus.dtb", _ZERO_2, "pi3-64bit"),
    "3b": Board("Raspberry Pi 3 Model B", "bcm2710-rpi-3-b.dtb", _ZERO_2, "pi3-64bit"),
    "3b+": Board("Raspberry Pi 3 Model B+", "bcm2710-rpi-3-b-plus.dtb", _ZERO_2, "pi3-64bit"),
    "4b": Board("Raspberry Pi 4 Model B", "bcm2711-rpi-4-b.dtb", _PI_400, "pi4-64bit"),
    "400": Board("Raspberry Pi 400", "bcm2711-rpi-400.dtb", _PI_400, "pi4-64bit"),
    "cm4": Board("Raspberry Pi Compute Module 4", "bcm2711-rpi-cm4.dtb", _PI_400, "pi4-64bit"),
    "5": Board("Raspberry Pi 5", "bcm2712-rpi-5-b.dtb", _PI_5, "pi5-64bit"),
    "cm5": Board("Raspberry Pi Compute Module 5", "bcm2712-rpi-cm5-cm5io.dtb", _PI_5, "pi5-64bit"),
    "500": Board("Raspberry Pi 500", "bcm2712-rpi-500.dtb", _PI_5, "pi5-64bit"),
}
"""By an image of Raspberry Pi OS: its own kernels, which its own firmware finds by these names."""

_ON_RASPBERRY_PI_OS = "build from an image of Raspberry Pi OS Lite (64 bit), with --base"
REFUSED = {
    "5": ("Debian 13's kernel has no driver for its RP1: neither USB nor network", _ON_RASPBERRY_PI_OS),
    "zero2w": ("the Wi-Fi firmware of its later revisions is not in Debian", _ON_RASPBERRY_PI_OS),
    "3a+": ("nobody has tried the image on it", _ON_RASPBERRY_PI_OS),
    "400": ("nobody has tried the image on it", _ON_RASPBERRY_PI_OS),
    "cm5": ("Debian 13's kernel has no driver for its RP1: neither USB nor network", _ON_RASPBERRY_PI_OS),
    "500": ("Debian 13's kernel has no driver for its RP1: neither USB nor network", _ON_RASPBERRY_PI_OS),
    "cm3": ("nobody has tried an image on it", "flash Raspberry Pi OS and run ansible/site.yml on it"),
    "2": (
        "most of them have a 32-bit processor, and the agent's wheels are for 64 bits",
        "take one of the others",
    ),
    "1": ("it has a 32-bit processor", "take one of the others"),
    "zero": ("it has a 32-bit processor", "take one of the others"),
}


def choose(names: str, boards: Mapping[str, Board] = BOARDS) -> list[Board]:
    """`3b,4b` -> those of `boards`, all if empty. Raises BadInputError for one that is refused or unknown."""
    chosen = []
    for name in dict.fromkeys(part.strip().lower() for part in (names or ",".join(boards)).split(",")):
        if name not in boards and name in REFUSED:
            why, instead = REFUSED[name]
            raise BadInputError(f"board {name} is not supported: {why}", hint=f"Instead, {instead}")
        if name not in boards:
            raise BadInputError(f"there is no board {name!r}", hint=f"Boards are {', '.join(boards)}")
        chosen.append(boards[name])
    return chosen


def check(boards: Iterable[Board], boot: Sequence[File]) -> None:
    """Raises ImageError unless the boot partition has what starts each board, and starts this system."""
    files = {str(item.path): item.content for item in boot}
    missing = {name for board in boards for name in (board.device_tree, *board.firmware) if name not in files}
    config = files.get("config.txt", b"").decode()
    words = files.get("cmdline.txt", b"").decode().split()
    named = re.findall(r"(?m)^(?:kernel=|initramfs )(\S+)$", config)
    missing |= {name for name in named if name not in files}
    wrong = [f"/boot/firmware has no {name}" for name in sorted(missing)]
    if len(named) != 2:
        wrong.append("config.txt does not name one kernel and one initramfs")
    for line in ("arm_64bit=1", "upstream_kernel=1"):
        if line not in config.splitlines():
            wrong.append(f"config.txt lacks {line}")
    for word in (f"root=LABEL={ROOT_LABEL}", "rw", "rootwait", "console=tty0", "console=ttyS1,115200"):
        if word not in words:
            wrong.append(f"cmdline.txt lacks {word}")
    if any(word.startswith("cma=") for word in words):
        wrong.append("cmdline.txt sets cma=, with which a Pi 4 does not start")
    if files.get("cmdline.txt", b"").strip().count(b"\n"):
        wrong.append("cmdline.txt has more than one line")
    if wrong:
        raise ImageError("; ".join(wrong), hint="Build the base anew: image/build --fresh")


def check_raspios(boards: Iterable[Board], boot: Sequence[File], disk_id: int) -> None:
    """The same for Raspberry Pi OS: raises BadInputError, for what is wrong came with the given image."""
    files = {str(item.path): item.content for item in boot}
    needed = {name for board in boards for name in (board.device_tree, *board.firmware)}
    needed |= {"config.txt", "cmdline.txt"}
    wrong = [f"/boot/firmware has no {name}" for name in sorted(needed - files.keys())]
    config = files.get("config.txt", b"").decode(errors="replace").splitlines()
    command_line = files.get("cmdline.txt", b"").decode(errors="replace").strip()
    words = command_line.split()
    if "auto_initramfs=1" not in config:
        wrong.append("config.txt lacks auto_initramfs=1")
    if "arm_64bit=0" in config:
        wrong.append("config.txt starts a 32-bit kernel: arm_64bit=0")
    if f"root=PARTUUID={disk_id:08x}-02" not in words:
        wrong.append(f"cmdline.txt lacks root=PARTUUID={disk_id:08x}-02")
    if "resize" not in words and not re.search(r"(?m)^init=\S+/firstboot$", "\n".join(words)):
        wrong.append("cmdline.txt asks for no first start (resize, or init=): has a card been read back?")
    if "\n" in command_line:
        wrong.append("cmdline.txt has more than one line")
    if wrong:
        hint = "Give a newer image of Raspberry Pi OS Lite (64 bit), as it was downloaded, or fewer --boards"
        raise BadInputError("; ".join(wrong), hint=hint)


def only(boards: Iterable[Board], boot: Sequence[File]) -> list[File]:
    """The boot partition's files less the device trees of other boards."""
    wanted = {board.device_tree for board in boards}
    return [item for item in boot if item.path.suffix != ".dtb" or item.path.name in wanted]
