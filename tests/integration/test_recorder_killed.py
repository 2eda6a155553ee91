"""kill -9 at random moments: files that were open play, and the account has no hole."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.support.ramps import PERIOD, values

from pinna.recorder.manifest import read_account
from pinna.recorder.verify import verify

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
