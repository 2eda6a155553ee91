"""The root file system of a container whose programs have 32 bits, for a Pi that has 64."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.virtual_pi.cache import cached
from tests.virtual_pi.processes import need
from tests.virtual_pi.progress import step

PACKAGES = ("base-files", "base-passwd", "coreutils", "libasound2-plugins", "libportaudio2", "python3")
WHAT = (
    "--architectures=armhf",
    "--aptopt=APT::Install-Recommends false",
    f"--include={','.join(PACKAGES)}",
    # Who is not configured has made no groups yet.
    '--extract-hook=cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"',
    '--extract-hook=cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"',
)
MIRROR = "deb http://deb.debian.org/debian trixie main"
NAME = "base-of-32-bits.tar.gz"


def base_of_32_bits() -> Path:
    """Debian trixie for armhf, its packages unpacked, not configured: enough to look from, and to listen."""

    def make(work: Path) -> None:
        with step("making a base image of 32 bits for containers"):
            command = [need("mmdebstrap", "mmdebstrap"), "--quiet", "--variant=extract", *WHAT]
            subprocess.run([*command, "trixie", str(work / NAME), MIRROR], check=True, timeout=900)

    return cached("container-armhf", hashlib.sha256(repr(WHAT).encode()).hexdigest()[:12], make) / NAME
