"""The programs that make file systems: those of Debian trixie, whatever the host has.

Trixie's mke2fs (1.47.2) reads a tar, so that owners and modes need no root, and takes all times from
SOURCE_DATE_EPOCH; bookworm's does neither. With the same programs on every host, the images are the same.
"""

from __future__ import annotations

import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image.errors import ImageError
from image.programs import ask, run
from image.progress import step
from tests.virtual_pi.processes import need

from image import cache

_PACKAGES = ("e2fsprogs", "libarchive13t64", "mtools")
_MIRROR = "deb http://deb.debian.org/debian trixie main"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Tools:
    """Programs below `root`, run by the C library and the libraries beside them."""

    root: Path

    def run(self, program: str, *arguments: str, epoch: int, stdin: bytes = b"") -> bytes:
        """What `program` prints, with SOURCE_DATE_EPOCH in force. Raises ImageError if it fails."""
        (loader,) = self.root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*")
        (path,) = (
            path
            for path in (self.root / "usr/sbin" / program, self.root / "usr/bin" / program)
            if path.exists()
        )
        command = [
            str(loader),
            "--library-path",
            str(loader.parent),
            "--argv0",
            program,
            str(path),
            *arguments,
        ]
        environment = {
            "SOURCE_DATE_EPOCH": str(epoch),
            "TZ": "UTC",
            "MTOOLSRC": "/dev/null",
            "MKE2FS_CONFIG": str(self.root / "etc/mke2fs.conf"),
        }
        return ask(command, env=environment, stdin=stdin)


def tools() -> Tools:
    """From the cache; downloaded now (seconds) unless they are there."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ImageError(
            f"images are not built on {machine}",
            hint=f"Use a host that is one of {', '.join(_ARCHITECTURES)}",
        )
    key = cache.digest(machine, _PACKAGES, _MIRROR)
    return Tools(cache.stage("tools", key, lambda work: _fetch(work, _ARCHITECTURES[machine])))


def _fetch(work: Path, architecture: str) -> None:
    with step("fetching the programs that make file systems"):
        archive, log = work / "tools.tar", work / "log"
        command: Sequence[str] = [
            *(need("mmdebstrap", "mmdebstrap"), "--quiet", "--variant=extract"),
            *(f"--architectures={architecture}", "--aptopt=APT::Install-Recommends false"),
            *(f"--include={','.join(_PACKAGES)}", "trixie", str(archive), _MIRROR),
        ]
        run(command, log=log, timeout=600)
        with tarfile.open(archive) as tar:
            wanted = [
                entry
                for entry in tar
                if entry.name.startswith(("./usr/", "./etc/mke2fs")) and not entry.isdev()
            ]
            tar.extractall(work, wanted, filter="data")
        archive.unlink()
        log.unlink()
