"""What a root file system says of itself that the image goes by: Debian's own, or Raspberry Pi OS."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from image.errors import BadInputError
from image.filesystems import Names

ISSUE = "etc/rpi-issue"
"""Every image of Raspberry Pi OS has this file, and nothing else has."""

CLOUD_INIT = "usr/bin/cloud-init"
"""Raspberry Pi OS trixie has it, bookworm has not."""

CURE = "Give Raspberry Pi OS Lite (64 bit), bookworm or trixie, as raspberrypi.com has it (.img.xz or .img)"


@dataclass(frozen=True)
class System:
    suite: str
    raspios: bool
    cloud_init: bool
    names: Names

    @property
    def init_format(self) -> str:
        """How Raspberry Pi Imager is to write down its user's wishes: the key `init_format` of its list."""
        if not self.raspios:
            return "cloudinit"
        return "cloudinit-rpi" if self.cloud_init else "systemd"


def look(root: Path) -> System:
    """Of a system's canonical tar. Raises BadInputError for a Raspberry Pi OS without PARTUUIDs in fstab."""
    wanted = {ISSUE, "etc/fstab", CLOUD_INIT, "usr/lib/os-release"}
    found: dict[str, str] = {}
    with tarfile.open(root) as tar:
        for entry in tar:
            if (name := entry.name.removeprefix("./")) in wanted:
                data = tar.extractfile(entry) if entry.isreg() else None
                found[name] = data.read().decode(errors="replace") if data else ""
    if ISSUE not in found:
        return System("trixie", raspios=False, cloud_init=True, names=Names())
    return System(
        suite(found.get("usr/lib/os-release", "")),
        raspios=True,
        cloud_init=CLOUD_INIT in found,
        names=Names("bootfs", "rootfs", disk_id(found.get("etc/fstab", ""))),
    )


def suite(os_release: str) -> str:
    """`trixie`; empty if it says nothing."""
    named = re.search(r'(?m)^VERSION_CODENAME="?([a-z]+)"?$', os_release)
    return named[1] if named else ""


def disk_id(fstab: str) -> int:
    """The number that the PARTUUIDs in it begin with. Raises BadInputError unless both have the same."""
    lines = set(re.findall(r"(?m)^PARTUUID=([0-9a-f]{8})-0([12])\s+(/boot/firmware|/)\s", fstab))
    numbers = {number for number, _, _ in lines}
    if {line[1:] for line in lines} != {("1", "/boot/firmware"), ("2", "/")} or len(numbers) != 1:
        raise BadInputError("its /etc/fstab does not name the card's two partitions by PARTUUID", hint=CURE)
    return int(numbers.pop(), 16)
