"""Other people's programs: run to their end, with a bound, and with what they said when they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from image.errors import ImageError
from tests.virtual_pi.processes import end, spawn


def run(
    command: Sequence[str], *, log: Path, timeout: float, hint: str = "is there space, and is the network up?"
) -> None:
    """Run `command`, both outputs in `log`. Raises ImageError with the log's tail unless it succeeds."""
    with log.open("wb") as output:
        program = spawn(command, output=output.fileno())
        try:
            code = program.wait(timeout)
            failure = f"ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"was not done after {timeout:.0f} s"
        finally:
            end(program)
    if failure:
        raise ImageError(f"{Path(command[0]).name} {failure}", hint=hint, console=tail(log))


def ask(command: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    """What a quick command prints. Raises ImageError with what it said unless it succeeds."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, env=environment, input=stdin, capture_output=True, timeout=600, check=False
    )
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()
        raise ImageError(
            f"{Path(command[0]).name} ended with {done.returncode}",
            hint="Is there space?",
            console=said[-2000:],
        )
    return done.stdout


def tail(log: Path, lines: int = 25) -> str:
    return "\n".join(log.read_text(errors="replace").replace("\r", "").splitlines()[-lines:])
