"""Peaks: what is drawn is what was recorded, also after a crash, and never at the recording's cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.support.ramps import ManualTime, files, plan, ramp

from pinna.recorder import peaks
from pinna.recorder.disk import peaks_of
from pinna.recorder.events import Chunk
from pinna.recorder.formats import Form
from pinna.recorder.recover import recover
from pinna.recorder.retention import Keeper
from pinna.recorder.settings import Settings, Source
from pinna.recorder.track import Track

RATE = 8000
START = 1_795_255_200.0


def record(folder: Path, form: Form, seconds: int, chunk: int = 777) -> Track:
    time = ManualTime(START)
    track = Track(plan(folder / "mic", form), time, lambda *_: None)
    first = 0
    while first < seconds * form.rate:
        count = min(chunk, seconds * form.rate - first)
        time.now += count / form.rate
        track.take(Chunk(ramp(first, count, form), time.now))
        first += count
    return track


def drawn(path: Path) -> peaks.Peaks:
    found = peaks.read(path)
    assert found is not None
    return found


def expected(path: Path, each: int) -> np.ndarray:
    data, _ = soundfile.read(path, dtype="int16", always_2d=True)
    rows = [data[k : k + each].astype(np.float64) for k in range(0, len(data), each)]
    return np.array([[row.min(), row.max(), np.rint(np.sqrt((row**2).mean()))] for row in rows])


@pytest.mark.parametrize(
    "form",
    [
        Form("wav", RATE, 1, 16),
        Form("wav", RATE, 2, 24),
        Form("flac", RATE, 3, 16),
        Form("flac", RATE, 1, 24),
    ],
)
def test_they_are_those_of_the_recorded_samples(tmp_path: Path, form: Form) -> None:
    record(tmp_path, form, 95, chunk=1013).close()
    whole, part = files(tmp_path / "mic")
    for path, entries in ((whole, 600), (part, 350)):
        found = drawn(path)
        assert (found.seconds_each, len(found.entries)) == (0.1, entries)
        assert np.abs(found.entries - expected(path, found.samples_each)).max() <= 1


def test_they_grow_with_the_file(tmp_path: Path) -> None:
    track = record(tmp_path, Form("wav", RATE, 1, 16), 3)
    track.sync()
    (path,) = files(tmp_path / "mic")
    assert len(drawn(path).entries) == 30
    track.close()


def test_after_a_crash_what_lacks_is_drawn_from_the_file(tmp_path: Path) -> None:
    track = record(tmp_path, Form("wav", RATE, 1, 16), 10)
    track.sync()
    (path,) = files(tmp_path / "mic")
    held = peaks_of(path).read_bytes()
    peaks_of(path).write_bytes(held[: len(held) // 2])  # the kernel had not brought it to the disk
    recover(tmp_path / "mic")
    assert peaks.complete(path)
    found = drawn(path)
    assert np.abs(found.entries - expected(path, found.samples_each)).max() <= 1
    assert not list(path.parent.glob("*.new"))


def test_what_is_whole_is_not_drawn_again(tmp_path: Path) -> None:
    record(tmp_path, Form("flac", RATE, 1, 16), 10).close()
    (path,) = files(tmp_path / "mic")
    before = peaks_of(path).stat()
    assert peaks.complete(path)
    assert peaks_of(path).stat().st_ino == before.st_ino


def test_drawing_ends_when_it_is_told_to_and_leaves_nothing(tmp_path: Path) -> None:
    record(tmp_path, Form("flac", RATE, 1, 16), 20).close()
    (path,) = files(tmp_path / "mic")
    peaks_of(path).unlink()
    assert not peaks.complete(path, lambda: True)
    assert {file.name for file in path.parent.iterdir()} == {path.name, "manifest.jsonl"}


@pytest.mark.parametrize("damage", [b"", b"PEAKS 1\n", b"something else entirely", b"PEAKS 1\n" + bytes(8)])
def test_what_are_no_peaks_are_none(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "mic.wav"
    peaks_of(path).write_bytes(damage)
    assert peaks.read(path) is None


def test_peaks_that_cannot_be_written_cost_no_sample(tmp_path: Path) -> None:
    folder = tmp_path / "mic" / "2026-11-21"
    (folder / "mic_2026-11-21T10-00-00+0000.wav.peaks").mkdir(parents=True)
    record(tmp_path, Form("wav", RATE, 1, 16), 5).close()
    (path,) = (path for path in files(tmp_path / "mic") if path.is_file())
    assert soundfile.info(path).frames == 5 * RATE


def test_they_are_deleted_with_their_file(tmp_path: Path) -> None:
    record(tmp_path, Form("wav", RATE, 1, 16), 150).close()
    settings = Settings(directory=tmp_path, sources=(Source("mic", keep_days=1.0),))
    Keeper(settings).apply_retention(START + 86_400 + 90)
    kept = files(tmp_path / "mic")
    assert len(kept) == 2
    assert sorted(tmp_path.glob("mic/*/*.peaks")) == [peaks_of(path) for path in kept]
