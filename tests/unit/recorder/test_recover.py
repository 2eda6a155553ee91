"""Starting again: what is unfinished is found, and months of archive are not read for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.ramps import ManualTime, files, plan, ramp

from pinna.recorder.events import Chunk
from pinna.recorder.formats import Form
from pinna.recorder.manifest import Manifest
from pinna.recorder.recover import Recovered, recover
from pinna.recorder.track import Track
from pinna.recorder.verify import sha256, verify

FORM = Form("wav", 100, 1, 16)
DAY = 86_400.0
START = 1_795_255_200.0


class Months:
    """A minute each day, hashed as the hasher does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = ManualTime(START)
        self.hashing = True
        self.next = 0
        self.track = self.new_track(None)

    def new_track(self, recovered: Recovered | None) -> Track:
        track = Track(plan(self.folder, FORM), self.time, self.closed)
        if recovered is not None:
            track.resume(recovered.account)
        return track

    def closed(self, path: Path, manifest: Manifest) -> None:
        if self.hashing:
            manifest.append({"kind": "sha256", "file": path.name, "sha256": sha256(path)})

    def record(self) -> None:
        for _ in range(40):
            self.time.now += 1
            self.track.take(Chunk(ramp(self.next, FORM.rate, FORM), self.time.now))
            self.next += FORM.rate

    def days(self, count: int) -> None:
        for _ in range(count):
            self.track = self.new_track(recover(self.folder))
            self.record()
            self.track.close()
            self.time.now += DAY - 40

    @property
    def manifests(self) -> list[Path]:
        return sorted(self.folder.glob("*/manifest.jsonl"))

    def proven(self) -> None:
        assert verify(self.folder, hashes=False, progress=lambda _: None).wrong == []


@pytest.fixture
def months(tmp_path: Path) -> Months:
    return Months(tmp_path / "mic")


def test_of_months_that_are_finished_the_last_two_days_are_read(months: Months):
    months.days(90)
    for path in months.manifests[:-2]:
        path.write_text("nonsense\n" + path.read_text())  # it would be said to be wrong
    recovered = recover(months.folder)
    assert recovered.account.wrong == []
    assert len(recovered.account.segments) == 2
    assert recovered.account.end == months.next + 89 * round((DAY - 40) * FORM.rate)


def test_as_far_back_as_something_is_unfinished_it_is_found(months: Months):
    months.days(10)
    months.hashing = False
    months.days(7)
    recovered = recover(months.folder)
    assert [segment.path for segment in recovered.unhashed] == files(months.folder)[10:]


def test_the_last_day_is_the_last_that_was_recorded_whatever_the_clock_said(months: Months):
    months.days(3)
    months.time.offset += 1000 * DAY
    months.days(3)
    months.time.offset -= 1001 * DAY
    months.track = months.new_track(recover(months.folder))
    months.record()  # and the power goes
    months.time.now += 30
    recovered = recover(months.folder)
    assert recovered.account.segments[-1].closed is not None
    assert recovered.account.end == recovered.account.segments[-1].end
    months.track = months.new_track(recovered)
    months.record()
    months.track.close()
    months.proven()


def test_many_deletions_after_the_last_file_hide_it_not(months: Months):
    months.days(3)
    manifest = Manifest(months.manifests[0])
    begun = manifest.last_begun()
    for number in range(200):
        manifest.append({"kind": "deleted", "file": f"mic_{number}.wav", "reason": "age", "time": "never"})
    assert manifest.path.stat().st_size > 10_000
    assert manifest.last_begun() == begun == 0
    assert [Manifest(path).last_begun() for path in months.manifests] == sorted(
        Manifest(path).last_begun() for path in months.manifests
    )


@pytest.mark.parametrize("torn", [b'{"kind": "open", "fi', b"\0\0\0", b'{"kind": "open", "first": 7}'])
def test_a_line_that_a_power_cut_tore_takes_no_other_along(months: Months, torn: bytes):
    months.days(3)
    manifest = Manifest(months.manifests[0])
    before = manifest.path.read_bytes()
    manifest.path.write_bytes(before + torn)
    assert manifest.last_begun() == 0
    manifest.append({"kind": "deleted", "file": "x", "reason": "age"})
    assert manifest.path.read_bytes() == before + b'{"kind": "deleted", "file": "x", "reason": "age"}\n'


def test_a_manifest_of_one_torn_line_is_none_yet(months: Months):
    months.days(2)
    later = months.folder / "2030-01-01" / "manifest.jsonl"
    later.parent.mkdir()
    later.write_bytes(b'{"kind": "open", "file": "mic_x.wav", "fir')
    assert Manifest(later).last_begun() == -1
    months.days(1)
    months.proven()
