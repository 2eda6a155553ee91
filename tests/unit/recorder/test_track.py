"""One source on disk: nothing lost where files meet, and a line for whatever is lost elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.ramps import PERIOD, ManualTime, files, plan, ramp, values

from pinna.recorder import formats
from pinna.recorder.clock import Quality
from pinna.recorder.events import Chunk, Down, Lost
from pinna.recorder.formats import Form
from pinna.recorder.manifest import Manifest, read_account
from pinna.recorder.recover import recover
from pinna.recorder.track import Track
from pinna.recorder.verify import sha256, verify

RATE = 1000
WAV = Form("wav", RATE, 1, 16)
TEN = 1_795_255_200.0  # 2026-11-21T10:00:00Z


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time  # noqa: PLC0415

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def hashed(path: Path, manifest: Manifest) -> None:
    manifest.append({"kind": "sha256", "file": path.name, "sha256": sha256(path)})


class Bench:
    """A track, and a card whose samples are numbered."""

    def __init__(self, folder: Path, form: Form = WAV, start: float = TEN) -> None:
        self.folder, self.form = folder, form
        self.time = ManualTime(start)
        self.next = 0
        self.track = self.new_track()

    def new_track(self) -> Track:
        track = Track(plan(self.folder, self.form), self.time, hashed)
        recovered = recover(self.folder)
        for segment in recovered.unhashed:
            hashed(segment.path, segment.manifest)
        track.resume(recovered.account)
        return track

    def play(self, seconds: float, chunk: int = 137) -> None:
        left = round(seconds * self.form.rate)
        while left:
            count = min(chunk, left)
            self.time.now += count / self.form.rate
            self.track.take(Chunk(ramp(self.next, count, self.form), self.time.now))
            self.next, left = self.next + count, left - count

    def wait(self, seconds: float) -> None:
        """The card goes on without anyone to listen."""
        self.time.now += seconds
        self.next += round(seconds * self.form.rate)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self.folder.glob("*/manifest.jsonl")):
            found += [json.loads(line) for line in path.read_text().splitlines()]
        return [line for line in found if line["kind"] == kind]

    def proven(self) -> None:
        report = verify(self.folder, hashes=True, progress=lambda _: None)
        assert report.wrong == []

    def each_sample_is_where_its_number_says(self, tolerance: int = 0) -> None:
        """The account's index of a sample is its number, over files and gaps."""
        for segment in read_account(self.folder).segments:
            if not segment.samples:
                continue
            assert not segment.gaps
            got = values(segment.path)
            assert len(got) == segment.samples
            assert np.array_equal(np.diff(got) % PERIOD, np.ones(len(got) - 1))
            off = (int(got[0]) - segment.first + tolerance) % PERIOD
            assert 0 <= off <= 2 * tolerance


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "mic")


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_hundred_rotations_lose_no_sample(tmp_path: Path, kind: str):
    bench = Bench(tmp_path / "mic", Form(kind, RATE, 1, 16), start=TEN + 13.7)
    bench.play(101 * 60, chunk=977)
    bench.track.close()
    paths = files(bench.folder)
    assert len(paths) == 102
    together = np.concatenate([values(path) for path in paths])
    assert np.array_equal(together, np.arange(101 * 60 * RATE) % PERIOD)
    assert bench.lines("gap") == []
    bench.proven()


def test_an_opus_archive_has_the_samples_it_was_given(tmp_path: Path):
    bench = Bench(tmp_path / "mic", Form("opus", 8000, 1, 16))
    bench.play(63.5)
    bench.track.close()
    assert [line["samples"] for line in bench.lines("close")] == [480_000, 28_000]
    bench.proven()


def test_files_begin_at_the_full_minute_and_are_called_so(tmp_path: Path):
    bench = Bench(tmp_path / "mic", start=TEN + 30)
    bench.play(100)
    bench.track.close()
    assert [path.name for path in files(bench.folder)] == [
        "mic_2026-11-21T10-00-30+0000.wav",
        "mic_2026-11-21T10-01-00+0000.wav",
        "mic_2026-11-21T10-02-00+0000.wav",
    ]
    assert [line["samples"] for line in bench.lines("close")] == [30_000, 60_000, 10_000]


def test_chunks_that_arrive_late_and_in_lumps_move_no_cut(bench: Bench):
    rng = np.random.default_rng(7)
    for _ in range(1500):
        bench.time.now += 0.1
        late = float(rng.uniform(0, 0.08))
        bench.time.now += late
        bench.track.take(Chunk(ramp(bench.next, 100, WAV), bench.time.now))
        bench.time.now -= late
        bench.next += 100
    bench.track.close()
    lengths = [line["samples"] for line in bench.lines("close")]
    assert [round(length, -2) for length in lengths] == [60_000, 60_000, 30_000]
    assert bench.lines("gap") == []
    bench.proven()


def test_a_midnight_begins_a_folder_and_a_manifest(tmp_path: Path):
    bench = Bench(tmp_path / "mic", start=TEN + 14 * 3600 - 90)
    bench.play(180)
    bench.track.close()
    assert [(path.parent.name, path.name[4:20]) for path in files(bench.folder)] == [
        ("2026-11-21", "2026-11-21T23-58"),
        ("2026-11-21", "2026-11-21T23-59"),
        ("2026-11-22", "2026-11-22T00-00"),
        ("2026-11-22", "2026-11-22T00-01"),
    ]
    bench.proven()


def test_an_overrun_is_a_line_at_its_place(bench: Bench):
    bench.play(10)
    bench.wait(0.25)
    bench.track.take(Lost("xrun", 250, "overrun!!! (at least 250.000 ms long)"))
    bench.play(10)
    bench.track.close()
    (gap,) = bench.lines("gap")
    assert (gap["reason"], gap["first"], gap["samples"], gap["offset"]) == ("xrun", 10_000, 250, 10_000)
    bench.proven()


def test_unplugged_and_plugged_in_again(bench: Bench):
    bench.play(10)
    bench.track.take(Down("unplug", "read error: No such device"))
    bench.track.take(Down("unplug", "No such file or directory"))
    assert bench.track.status["state"] == "unplug"
    bench.wait(33)
    bench.play(10)
    bench.track.close()
    (gap,) = bench.lines("gap")
    assert (gap["reason"], gap["first"], gap["samples"]) == ("unplug", 10_000, 33_000)
    assert gap["detail"] == "read error: No such device"
    assert len(files(bench.folder)) == 2
    bench.each_sample_is_where_its_number_says()
    bench.proven()


def test_stopped_while_unplugged_the_gap_is_written_down(bench: Bench):
    bench.play(10)
    bench.track.take(Down("unplug", "gone"))
    bench.wait(5)
    bench.track.close()
    bench.wait(7)
    bench.track = bench.new_track()
    bench.play(10)
    bench.track.close()
    assert [(gap["reason"], gap["samples"]) for gap in bench.lines("gap")] == [
        ("unplug", 5000),
        ("restart", 7000),
    ]
    bench.each_sample_is_where_its_number_says()
    bench.proven()


def test_a_clean_restart_is_a_gap_of_its_length(bench: Bench):
    bench.play(10)
    bench.track.close()
    bench.wait(42)
    bench.track = bench.new_track()
    bench.play(10)
    bench.track.close()
    (gap,) = bench.lines("gap")
    assert (gap["reason"], gap["samples"], gap["detail"]) == ("restart", 42_000, "stopped")
    bench.each_sample_is_where_its_number_says()
    bench.proven()


def test_another_boot_is_measured_by_the_wall_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.play(10)
    bench.track.close()
    bench.wait(42)
    monkeypatch.setattr("pinna.recorder.track.boot_id", lambda: "another")
    bench.time.offset += bench.time.now - 5.0
    bench.time.now = 5.0
    bench.track = bench.new_track()
    bench.play(10)
    bench.track.close()
    bench.each_sample_is_where_its_number_says(tolerance=1)
    bench.proven()


def test_a_boot_whose_clock_is_behind_says_that_something_is_missing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """A Pi has no clock of its own: until the network tells, it goes on from when it was shut down."""
    bench.play(10)
    bench.track.close()
    monkeypatch.setattr("pinna.recorder.track.boot_id", lambda: "another")
    monkeypatch.setattr("pinna.recorder.track.quality", lambda: Quality("unsynchronised"))
    bench.time.now, bench.time.offset = 5.0, TEN - 600
    bench.track = bench.new_track()
    bench.play(10)
    bench.track.close()
    (gap,) = bench.lines("gap")
    assert (gap["reason"], gap["samples"]) == ("restart", 0)
    assert gap["detail"] == "stopped, timed by a clock that was not synchronised"
    bench.proven()


def test_a_clock_set_forward_cuts_at_once_and_is_written_down(bench: Bench):
    bench.play(10)
    bench.time.offset += 3600
    bench.play(10)
    bench.track.close()
    (line,) = bench.lines("clock")
    assert abs(line["jump_seconds"] - 3600) < 1
    assert [path.name[15:23] for path in files(bench.folder)] == ["10-00-00", "11-00-10"]
    assert bench.lines("gap") == []
    bench.proven()


def test_a_clock_set_back_overwrites_nothing(bench: Bench):
    bench.play(130)
    bench.time.offset -= 120
    bench.play(130)
    bench.track.close()
    names = [path.name for path in files(bench.folder)]
    assert len(names) == len(set(names))
    assert any("_2.wav" in name for name in names)
    assert sum(len(values(path)) for path in files(bench.folder)) == 260_000
    assert bench.lines("gap") == []
    bench.proven()


def test_suspended_for_the_disk_counts_to_the_sample(bench: Bench):
    bench.play(10)
    bench.track.suspended = "only 3 MB are free"
    bench.play(7)
    bench.wait(0.777)
    bench.track.take(Lost("xrun", 777, "overrun"))
    assert bench.track.status["state"] == "disk"
    bench.track.suspended = ""
    bench.play(10)
    bench.track.close()
    (gap,) = bench.lines("gap")
    assert (gap["reason"], gap["samples"], gap["estimated"]) == ("disk", 7777, False)
    bench.each_sample_is_where_its_number_says()
    bench.proven()


def test_unplugged_while_the_disk_is_full(bench: Bench):
    bench.play(10)
    bench.track.suspended = "full"
    bench.play(5)
    bench.track.take(Down("unplug", "gone"))
    bench.wait(5)
    bench.play(5)
    bench.track.suspended = ""
    bench.play(5)
    bench.track.close()
    assert sum(gap["samples"] for gap in bench.lines("gap")) == 15_000
    bench.each_sample_is_where_its_number_says()
    bench.proven()


def test_the_torn_line_of_a_power_cut_is_dropped(bench: Bench):
    bench.play(10)
    bench.track.close()
    manifest = bench.folder / "2026-11-21" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes() + b'{"kind": "open", "fi')
    bench.track = bench.new_track()
    bench.play(10)
    bench.track.close()
    bench.proven()


def test_after_a_power_cut_gaps_behind_what_was_saved_are_void(bench: Bench):
    bench.play(10)
    bench.track.take(Lost("xrun", 500, "overrun"))
    bench.wait(0.5)
    bench.play(1)
    (path,) = files(bench.folder)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 2 * 3000)  # the last 3 s never reached the disk
    bench.wait(10)
    bench.track = bench.new_track()
    bench.play(10)
    bench.track.close()
    bench.each_sample_is_where_its_number_says()
    bench.proven()


class TestVerifyFinds:
    """What it is there to find."""

    @pytest.fixture
    def done(self, bench: Bench) -> Bench:
        bench.play(150)
        bench.track.close()
        return bench

    def wrong(self, bench: Bench) -> str:
        return "\n".join(verify(bench.folder, hashes=True, progress=lambda _: None).wrong)

    def test_a_missing_file(self, done: Bench):
        files(done.folder)[1].unlink()
        assert "is missing" in self.wrong(done)

    def test_a_flipped_bit(self, done: Bench):
        path = files(done.folder)[1]
        data = bytearray(path.read_bytes())
        data[5000] ^= 1
        path.write_bytes(data)
        assert "has been changed" in self.wrong(done)

    def test_a_shorter_file(self, done: Bench):
        path = files(done.folder)[1]
        path.write_bytes(path.read_bytes()[:-2])
        assert "bytes; the manifest says" in self.wrong(done)

    def test_a_file_nobody_wrote_down(self, done: Bench):
        (done.folder / "2026-11-21" / "mic_other.wav").write_bytes(b"")
        assert "is not in manifest.jsonl" in self.wrong(done)

    def test_a_line_that_is_gone(self, done: Bench):
        manifest = done.folder / "2026-11-21" / "manifest.jsonl"
        name = files(done.folder)[1].name
        manifest.write_text("".join(x for x in manifest.read_text().splitlines(True) if name not in x))
        assert "60000 samples are unaccounted for" in self.wrong(done)

    def test_a_line_that_is_none(self, done: Bench):
        manifest = done.folder / "2026-11-21" / "manifest.jsonl"
        manifest.write_text("nonsense\n" + manifest.read_text())
        assert "line 1" in self.wrong(done)


class FullDisk:
    """A segment file on a disk that takes so many bytes more. The rest is the real one."""

    def __init__(self, path: Path, form: Form, room: int) -> None:
        self._file, self._room = formats.wav.WavFile(path, form), room
        self.sync, self.abandon, self.close = self._file.sync, self._file.abandon, self._file.close

    def write(self, data: bytes) -> None:
        part = data[: self._room]
        self._file.write(part)
        self._room -= len(part)
        if len(part) < len(data):
            raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_in_the_middle_of_a_write(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    real = formats.create
    monkeypatch.setattr(formats, "create", lambda path, form, head: FullDisk(path, form, 10_001))
    bench.play(5.5)
    assert bench.track.status["state"] == "disk"
    monkeypatch.setattr(formats, "create", real)
    bench.play(20)
    bench.track.close()
    (gap,) = bench.lines("gap")
    assert (gap["reason"], gap["first"], gap["estimated"]) == ("disk", 5000, False)
    bench.each_sample_is_where_its_number_says()
    bench.proven()
