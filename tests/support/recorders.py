"""`pinna record` as a process, and its archive."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import Program, program
from tests.support.waiting import eventually

from pinna.demo.sound import VirtualSound


class Recorder:
    def __init__(self, running: Program, folder: Path) -> None:
        self.program, self.folder = running, folder

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    def status(self) -> dict[str, Any]:
        path = self.folder / "status.json"
        try:
            body: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:  # not begun yet, or ended
            return {}
        return body if body.get("pid") == self.program.process.pid else {}

    def source(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.status().get("sources", {}).get(name, {})
        return found

    def wait_recording(self, name: str, seconds: float = 0.0, rate: int = 48_000) -> None:
        eventually(
            lambda: (
                self.source(name).get("state") == "recording"
                and self.source(name)["file_samples"] > seconds * rate
            ),
            30,
            what=f"{name} records\n{self.program.said()}",
        )

    def verify(self, *flags: str) -> tuple[int, list[dict[str, Any]]]:
        done = command("archive", "verify", str(self.archive), "--json", *flags)
        return done.returncode, json.loads(done.stdout)


def command(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pinna", *words], capture_output=True, text=True, check=False, env=environment
    )


@contextmanager
def recorder(
    sound: VirtualSound | dict[str, str], folder: Path, sources: str, name: str = "recorder"
) -> Iterator[Recorder]:
    """`sound`: whose devices there are, or the environment in which they are found."""
    general = (
        f'[general]\ndirectory = "{folder}/archive"\nstatus_file = "{folder}/status.json"\nreserve_mb = 1\n'
    )
    (folder / "recorder.toml").write_text(general + sources)
    words = ["pinna", "record", "--config", str(folder / "recorder.toml")]
    environment = sound.environment if isinstance(sound, VirtualSound) else sound
    with program(words, environment, folder, name) as running:
        yield Recorder(running, folder)
