"""Programs that are measured, each ended by its id."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def started(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """In `folder`; what it says goes into the file `said` there."""
    program = shutil.which(words[0])
    assert program, f"{words[0]} is not installed"
    with (folder / "said").open("ab") as said:
        process = subprocess.Popen(
            [program, *words[1:]], cwd=folder, env=environment, stdout=said, stderr=said
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)
