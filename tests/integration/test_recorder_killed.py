"""kill -9 at random moments: files that were open play, and the account has no hole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from tests.support.counting import CHANNELS, PCM, card, lost, numbers
from tests.support.ramps import PERIOD, values
from tests.support.recorders import recorder

from pinna.recorder.manifest import read_account
from pinna.recorder.verify import verify

BOTH = "".join(
    f'[sources.{kind}]\ndevice = "{PCM}"\nformat = "{kind}"\nchannels = {CHANNELS}\n'
    for kind in ("wav", "flac")
)
TIMES = 50
ROOT = Path(__file__).parents[2]
HELD_BACK = {"wav": 0, "flac": 2 * 4096, "opus": 8000 + 480}
"""Samples that an encoder may take along: two blocks; a page and two packets."""


@pytest.mark.parametrize(("kind", "times"), [("wav", 20), ("flac", 20), ("opus", 10)])
def test_killed_again_and_again_what_was_taken_is_kept(tmp_path: Path, kind: str, times: int):
    folder = tmp_path / "mic"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_recorder", str(folder), kind, str(times), "11"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    ends = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(ends) == times
    # What the shared memory had not been told yet may be on the disk as well.
    assert all(mended >= reached - HELD_BACK[kind] for reached, mended in ends)

    report = verify(folder, hashes=False, progress=lambda _: None)
    assert report.wrong == []
    assert len(report.gaps) >= times - 1
    segments = [segment for segment in read_account(folder).segments if segment.samples]
    if kind != "opus":  # it loses something each time, and is too slow for many rotations
        assert any(a.end == b.first for a, b in pairwise(segments))  # rotations were hit, too
        starts = []
        for segment in segments:
            got = values(segment.path)
            assert len(got) == segment.samples
            assert np.array_equal(np.diff(got) % PERIOD, np.ones(len(got) - 1))
            starts.append((int(got[0]) - segment.first) % PERIOD)
        # One number line through all lives: gaps are as long as what they stand for, but for the rounding of
        # times (and what arrives while a process is killed is timed, not counted).
        drift = [(b - a + PERIOD // 2) % PERIOD - PERIOD // 2 for a, b in pairwise(starts)]
        assert max(map(abs, drift)) < 0.1 * 300 * 8000


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_whole_program_killed_again_and_again(tmp_path: Path):
    """With arecord, on the card of numbered samples: what was kept is what was captured, in its order."""
    chance = random.Random(7)
    environment = card(tmp_path)
    for life in range(TIMES):
        with recorder(environment, tmp_path, BOTH, f"life{life}") as running:
            running.wait_recording("wav")
            running.wait_recording("flac", chance.uniform(0, 1))
            time.sleep(chance.uniform(0, 1))  # any moment between two looks at its status
            children = psutil.Process(running.program.process.pid).children()
            running.program.stop(signal.SIGKILL)
            psutil.wait_procs(children, 60)
    with recorder(environment, tmp_path, BOTH, "last") as running:
        running.wait_recording("wav")
        running.wait_recording("flac")
        assert running.program.stop(seconds=30) == 0
    code, reports = running.verify()
    assert code == 0, reports
    for report in reports:
        restarts = [gap for gap in report["gaps"] if gap["reason"] == "restart"]
        assert [gap["detail"] for gap in restarts] == ["killed or without power"] * TIMES
        segments = read_account(running.archive / report["source"]).segments
        kept = [segment for segment in segments if segment.samples]
        assert len(kept) >= TIMES
        found = [numbers(soundfile.read(segment.path, dtype="int16")[0]) for segment in kept]
        for segment, part in zip(kept, found, strict=True):
            assert len(part) == segment.samples
            assert lost(part) == 0 or segment.gaps  # a busy machine may overrun, and says so
        assert lost(np.concatenate(found)) > 0
