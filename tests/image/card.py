"""A card flashed with the image, as its owner prepares it, for an emulated machine to start from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from image.filesystems import BOOT_START, Image
from image.tools import tools
from tests.fleet.hub import TOKEN, FleetHub
from tests.fleet.pis import Pi
from tests.support.waiting import eventually
from tests.target.hub import frames
from tests.virtual_pi.acoustics import wav
from tests.virtual_pi.base import Base
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.plug import attach
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

from image import tree

CARD = "4G"  # the smallest that docs/image.md allows, and a power of two, as the raspi3b board wants
WISHES = """
[hub]
url = "{url}"
token_file = "hub_token"
[audio]  # an emulated processor is too slow for the echo canceller, and for playing beside recording
latency_ms = 200
output = "none"
[echo]
engine = "none"
"""
"""What an owner writes on the card before its first start."""


def card(image: Image, root: Path, folder: Path) -> tuple[Base, Path, str]:
    """What QEMU starts of the image, a card flashed with it, and the command line of its boot partition."""
    boot = {item.path.name: item.content for item in tree.boot_files(root)}
    for name, content in boot.items():
        if name.endswith(".dtb"):
            (folder / name).write_bytes(content)
    for kind, name in (("vmlinuz", "vmlinuz"), ("initrd.img", "initrd")):
        (content,) = (data for file, data in boot.items() if file.startswith(f"{kind}-"))
        (folder / name).write_bytes(content)
    disk = folder / "card.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.path), str(disk), CARD]
    subprocess.run(create, check=True, timeout=60)
    return Base(folder), disk, " ".join(boot["cmdline.txt"].decode().split())


def flashed(image: Image, folder: Path, hub: FleetHub) -> Image:
    """A copy of the image, with the owner's wishes on its boot partition."""
    copy = Image(folder / "pinna.img", image.layout, image.free)
    shutil.copyfile(image.path, copy.path)
    write(copy, "pinna.toml", WISHES.format(url=hub.for_pis))
    write(copy, "hub_token", f"{TOKEN}\n")
    return copy


def plug(machine: Machine, server: UsbipServer, voice: Path) -> Pi:
    """A microphone, near which somebody speaks, into a machine that runs."""
    microphone = Sh04(source=wav(voice))
    machine.run("modprobe -a vhci-hcd snd-usb-audio")
    attach(machine, server, server.plug(microphone))
    return Pi(machine.run("hostname").stdout.strip(), machine, server, microphone)


def wait_until_heard(pi: Pi, hub: FleetHub) -> None:
    assert pi.name.startswith("pinna-")

    def heard() -> bool:
        return frames(hub.health(), pi.name) > 100

    eventually(heard, 600, what="the hub hears it")


def write(image: Image, name: str, text: str) -> None:
    """As an owner edits the card in another computer."""
    at = ("-i", f"{image.path}@@{BOOT_START}", "-o", "-", f"::/{name}")
    tools().run("mcopy", *at, epoch=0, stdin=text.encode())
