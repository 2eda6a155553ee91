"""Real overruns of the real arecord, on a card whose samples are numbered: what is lost, and what is said."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile
from tests.support.counting import CHANNELS, PCM, RATE, card, lost, numbers
from tests.support.ramps import files
from tests.support.recorders import recorder
from tests.support.waiting import eventually

SOURCE = f'[sources.mic]\ndevice = "{PCM}"\nformat = "flac"\nchannels = {CHANNELS}\n'
STILL_SECONDS = 1.5
"""Three times what the ring holds."""


def test_the_account_says_what_the_numbers_of_the_samples_say(tmp_path: Path):
    with recorder(card(tmp_path), tmp_path, SOURCE) as running:
        running.wait_recording("mic", 3)
        (arecord,) = psutil.Process(running.program.process.pid).children()
        arecord.send_signal(signal.SIGSTOP)
        time.sleep(STILL_SECONDS)  # what is done to it, not a wait for it
        arecord.send_signal(signal.SIGCONT)
        eventually(lambda: running.program.events("recorder.gap"), what="the gap is told")
        running.wait_recording("mic", 6)
        assert running.program.stop() == 0
    code, (report,) = running.verify()
    assert code == 0, report["wrong"]
    kept = [numbers(soundfile.read(path, dtype="int16")[0]) for path in files(tmp_path / "archive" / "mic")]
    missing = lost(np.concatenate(kept))
    assert missing > STILL_SECONDS * RATE  # what was in the ring is gone as well
    assert {gap["reason"] for gap in report["gaps"]} == {"xrun"}
    # As long as it really is, but for what a busy machine delays every chunk of a second.
    assert abs(report["lost"] - missing) < 0.25 * RATE


def test_while_the_recorder_stands_still_arecord_goes_on_and_nothing_is_lost(tmp_path: Path):
    with recorder(card(tmp_path), tmp_path, SOURCE) as running:
        running.wait_recording("mic", 2)
        running.program.process.send_signal(signal.SIGSTOP)
        time.sleep(STILL_SECONDS)
        running.program.process.send_signal(signal.SIGCONT)
        running.wait_recording("mic", 6)
        assert running.program.stop() == 0
    code, (report,) = running.verify()
    assert code == 0, report["wrong"]
    assert report["gaps"] == []
    kept = [numbers(soundfile.read(path, dtype="int16")[0]) for path in files(tmp_path / "archive" / "mic")]
    assert lost(np.concatenate(kept)) == 0
