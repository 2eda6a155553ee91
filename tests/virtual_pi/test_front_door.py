"""`make pi` as a person uses it: at a terminal, with the keys it names, and Ctrl-C at the end."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path


class Terminal:
    """The program on a pseudo-terminal of its own; Ctrl-C typed there is a SIGINT for it."""

    def __init__(self, *command: str) -> None:
        self.child, self._side = pty.fork()
        if self.child == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job's children ignore it
            os.execv(command[0], command)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def read_until(self, pattern: str, timeout: float) -> re.Match[str]:
        """What follows the last match; raises with all that was said when it does not come."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.said)):
            ready, _, _ = select.select([self._side], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} within {timeout:.0f} s; it said: {self.said}"
            self.said += os.read(self._side, 65536).decode(errors="replace")
        self.said = self.said[found.end() :]
        return found

    def exit_code(self) -> int:
        _, status = os.waitpid(self.child, 0)
        self.child = 0
        return os.waitstatus_to_exitcode(status)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child:  # a test failed half-way
            os.kill(self.child, signal.SIGTERM)
            self.exit_code()
        os.close(self._side)


def descendants(parent: int) -> set[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(child) for child in children}


def test_a_person_boots_it_unplugs_and_plugs_and_leaves_no_trace() -> None:
    with Terminal(sys.executable, "-m", "tests.virtual_pi", "--ssh-port", "0") as terminal:
        shell = shlex.split(terminal.read_until(r"A shell on the Pi:\s+(ssh .*root@127\.0\.0\.1)\r", 600)[1])
        terminal.read_until("Ctrl-C ends it all", 10)
        folder = Path(shell[shell.index("-i") + 1]).parent
        assert folder.is_dir()
        children = descendants(terminal.child)
        assert children
        assert "SH04 [SH-04]" in cards(shell)
        terminal.type("u\n")
        terminal.read_until("unplugged", 60)
        assert "SH04" not in cards(shell)
        terminal.type("p\n")
        terminal.read_until(r"plugged in, card \d", 60)
        assert "SH04 [SH-04]" in cards(shell)
        terminal.type("\x03")
        terminal.read_until("virtual pi: ended", 60)
        assert terminal.exit_code() == 0
    assert not folder.exists()
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def cards(shell: list[str]) -> str:
    """What a person who is logged in sees; without any card, arecord fails."""
    command = [*shell, "arecord -l"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
