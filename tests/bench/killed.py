"""What kill -9 costs: seconds between the last sample in the mended file and the end of the program."""

from __future__ import annotations

import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from tests.support.counting import CHANNELS, PCM, RATE, card
from tests.support.recorders import recorder

from pinna.recorder.manifest import read_account

KINDS = ("wav", "flac", "opus")
SOURCES = "".join(
    f'[sources.{kind}]\ndevice = "{PCM}"\nformat = "{kind}"\nrate = {RATE}\nchannels = {CHANNELS}\n'
    for kind in KINDS
)


def run(quick: bool) -> Iterator[dict[str, Any]]:
    chance = random.Random(5)
    killed: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = card(folder)
        for life in range(6 if quick else 21):
            with recorder(environment, folder, SOURCES, f"life{life}") as running:
                for kind in KINDS:
                    running.wait_recording(kind, 2)
                time.sleep(chance.uniform(0, 2))
                children = psutil.Process(running.program.process.pid).children()
                running.program.stop(signal.SIGKILL)
                killed.append(time.monotonic())
                psutil.wait_procs(children, 30)
        with recorder(environment, folder, SOURCES, "last") as running:  # mends the last
            running.wait_recording("opus")
            assert running.program.stop(seconds=30) == 0
        for kind in KINDS:
            yield {"killed": f"pinna record ({kind.upper()})", **losses(folder / "archive" / kind, killed)}


def losses(source: Path, killed: list[float]) -> dict[str, Any]:
    """Of the file that was open at each of these moments (monotonic)."""
    segments = [segment for segment in read_account(source).segments if segment.samples]
    cost = []
    for at in killed:
        last = [segment for segment in segments if float(segment.opened["mono"]) < at][-1]
        cost.append(at - float(last.opened["mono"]) - last.samples / RATE)
    return {
        "times": len(cost),
        "lost, s, median": round(statistics.median(cost), 2),
        "lost, s, most": round(max(cost), 2),
    }
