"""Programs that must not outlive us, and programs that must be there at all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
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


def spawn(command: Sequence[str], *, output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start `command`; the kernel kills it when the calling *thread* ends, however that comes about.

    It has a process group of its own, so that a Ctrl-C in the terminal reaches only us, who then end it
    in order. `output` takes both its outputs.
    """
    need("setpriv", "util-linux")
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        process_group=0,
    )


def end(program: subprocess.Popen[bytes]) -> None:
    """End what `spawn` started and all that it started: let it clean up for ten seconds, then kill it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        ask, deadline = int(number), time.monotonic() + 10
        while time.monotonic() < deadline:
            program.poll()  # or else it stays in its group, as a zombie
            try:
                os.killpg(program.pid, ask)
            except ProcessLookupError:
                return
            ask = 0  # once is enough; from now on, only whether anything is left
            time.sleep(0.02)
