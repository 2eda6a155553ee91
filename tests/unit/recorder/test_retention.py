"""What is deleted, what never is, and who stops first when the disk fills."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.ramps import ManualTime, files, plan, ramp

from pinna.recorder.disk import peaks_of
from pinna.recorder.events import Chunk
from pinna.recorder.formats import Form
from pinna.recorder.manifest import Manifest
from pinna.recorder.recover import recover
from pinna.recorder.retention import Keeper
from pinna.recorder.service import Recorder
from pinna.recorder.settings import Settings, Source
from pinna.recorder.track import Track
from pinna.recorder.verify import verify

FORM = Form("wav", 1000, 1, 16)
START = 1_795_255_200.0
MINUTE_BYTES = 120_080


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Ten minutes in ten files, the last of them open."""
    time = ManualTime(START)
    track = Track(plan(tmp_path / "mic", FORM), time, lambda *_: None)
    for first in range(0, 595_000, 1000):
        time.now += 1
        track.take(Chunk(ramp(first, 1000, FORM), time.now))
    return tmp_path


def keeper(archive: Path, **general: float) -> Keeper:
    keep_days = general.pop("keep_days", 0.0)
    return Keeper(Settings(directory=archive, sources=(Source("mic", keep_days=keep_days),), **general))  # type: ignore[arg-type]


def names(archive: Path) -> list[str]:
    return [path.name[18:23] for path in files(archive / "mic")]


def test_without_limits_nothing_goes(archive: Path):
    keeper(archive).apply_retention(START + 1e9)
    assert len(names(archive)) == 10


def test_what_is_too_old_goes_and_the_manifest_says_so(archive: Path):
    keeper(archive, keep_days=1.0).apply_retention(START + 86_400 + 3.5 * 60)
    assert names(archive) == ["03-00", "04-00", "05-00", "06-00", "07-00", "08-00", "09-00"]
    report = verify(archive / "mic", hashes=False, progress=lambda _: None)
    assert report.wrong == []
    assert report.deleted == 3
    assert report.samples == 540_000  # they are still accounted for


def test_the_oldest_go_until_the_rest_fits(archive: Path):
    """With the one that is still being written."""
    keeper(archive, max_gb=4.5 * MINUTE_BYTES / 1e9).apply_retention(START)
    assert names(archive) == ["06-00", "07-00", "08-00", "09-00"]
    report = verify(archive / "mic", hashes=False, progress=lambda _: None)
    assert (report.wrong, report.deleted) == ([], 6)


def test_days_that_need_not_go_are_not_read(archive: Path):
    """A year of manifests, every minute, would be a small Pi's whole work."""
    before = names(archive)
    (manifest,) = archive.glob("mic/*/manifest.jsonl")
    manifest.unlink()
    os.mkfifo(manifest)  # who reads it waits for ever
    keeper(archive, keep_days=3.0, max_gb=1.0).apply_retention(START + 3600)
    assert names(archive) == before


def test_on_a_full_disk_the_peaks_make_room_for_the_line(archive: Path, monkeypatch: pytest.MonkeyPatch):
    doomed = peaks_of(files(archive / "mic")[0])
    doomed.write_bytes(b"peaks")
    append = Manifest.append

    def on_a_full_disk(manifest: Manifest, line: dict[str, Any]) -> None:
        if doomed.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        append(manifest, line)

    monkeypatch.setattr(Manifest, "append", on_a_full_disk)
    keeper(archive, keep_days=1.0).apply_retention(START + 86_400 + 90)
    assert names(archive)[0] == "01-00"


def test_neither_the_open_file_nor_a_pinned_one_is_touched(archive: Path):
    oldest = files(archive / "mic")[0]
    oldest.with_name(oldest.name + ".pin").touch()
    keeper(archive, keep_days=0.001).apply_retention(START + 1e6)
    assert names(archive) == ["00-00", "09-00"]


def test_of_a_source_that_is_not_configured_any_more_the_oldest_go_too(archive: Path):
    """With those that are: what is oldest, whosever it is; of [general] the days."""
    time = ManualTime(START + 300)
    track = Track(replace(plan(archive / "other", FORM), source="other"), time, lambda *_: None)
    for first in range(0, 120_000, 1000):
        time.now += 1
        track.take(Chunk(ramp(first, 1000, FORM), time.now))
    track.close()
    (archive / "no source").mkdir()
    (archive / "elsewhere").symlink_to(archive / "mic")
    only_other = Settings(directory=archive, sources=(Source("other"),))
    kept = [path.name for path in files(archive / "mic")]

    Keeper(replace(only_other, max_gb=7.5 * MINUTE_BYTES / 1e9)).apply_retention(START)
    assert [path.name for path in files(archive / "mic")] == kept[
        5:
    ]  # the last, which nothing closed, counts
    assert len([*archive.glob("other/*/*.wav")]) == 2

    files(archive / "mic")[0].with_name(f"{kept[5]}.pin").touch()
    Keeper(replace(only_other, keep_days=1.0)).apply_retention(START + 1e6)
    assert [path.name for path in files(archive / "mic")] == [kept[5], kept[9]]
    assert len([*archive.glob("other/*/*.wav")]) == 2  # it has days of its own, and they have no end


def test_what_is_left_of_a_source_that_is_gone_is_mended_when_the_recorder_starts(archive: Path):
    settings = Settings(archive, archive / "status", reserve_mb=1, sources=(Source("other", format="wav"),))
    with Recorder(settings):
        pass
    report = verify(archive / "mic", hashes=True, progress=lambda _: None)
    assert (report.wrong, report.open, report.files) == ([], 0, 10)


def test_a_deletion_that_a_crash_interrupted_long_ago_is_finished_when_its_day_is_looked_at(archive: Path):
    doomed = files(archive / "mic")[3]
    Manifest(doomed.parent / "manifest.jsonl").append(
        {"kind": "deleted", "file": doomed.name, "reason": "age"}
    )
    keeper(archive, keep_days=1.0).apply_retention(START + 86_400)
    assert not doomed.exists()
    assert len(names(archive)) == 9


def test_a_deletion_that_a_crash_interrupted_is_finished(archive: Path):
    doomed = files(archive / "mic")[0]
    manifest = doomed.parent / "manifest.jsonl"
    with manifest.open("a") as file:
        file.write(f'{{"kind": "deleted", "file": "{doomed.name}", "reason": "age"}}\n')
    recover(archive / "mic")
    assert not doomed.exists()
    assert verify(archive / "mic", hashes=False, progress=lambda _: None).wrong == []


def test_the_least_important_stop_first_and_go_on_last(tmp_path: Path):
    tracks = []
    for name, priority in (("high", 5), ("low", 0), ("middle", 3)):
        source = Source(name, priority=priority)
        tracks.append((source, Track(plan(tmp_path, FORM), ManualTime(START), lambda *_: None)))
    guard = Keeper(replace(Settings(directory=tmp_path), reserve_mb=100))

    def running_at(megabytes: float) -> list[str]:
        guard.hold_reserve(tracks, int(megabytes * (1 << 20)))
        return [source.name for source, track in tracks if not track.suspended]

    assert running_at(200) == ["high", "low", "middle"]
    assert running_at(109) == ["high", "middle"]
    assert running_at(104) == ["high"]
    assert running_at(99) == []
    assert running_at(101) == []  # not at every byte
    assert running_at(111) == ["high"]
    assert running_at(118) == ["high", "middle"]
    assert running_at(122) == ["high", "low", "middle"]
