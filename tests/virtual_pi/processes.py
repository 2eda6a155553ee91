"""Programs that must not outlive us, and programs that must be there at all."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from tests.virtual_pi.errors import VirtualPiError


def need(program: str, package: str) -> str:
    """The program's path. Raises with the apt line when it is missing."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        raise VirtualPiError(
            f"{program} is not installed", hint=f"run tests/virtual_pi/bootstrap, or: apt install {package}"
        )
    return found


def spawn(command: Sequence[str], *, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Start `command`; the kernel kills it when the calling *thread* ends, however that comes about.

    It has a process group of its own, so that a Ctrl-C in the terminal reaches only us, who then end it
    in order.
    """
    need("setpriv", "util-linux")
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        process_group=0,
    )
