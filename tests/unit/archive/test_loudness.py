"""Loud sections over a rolling floor, and peaks reduced to what a screen can show."""

from __future__ import annotations

import numpy as np
import pytest

from pinna.archive.loudness import Section, levels, loud_sections, noise_floor, reduced
from pinna.recorder.peaks import Peaks


def of_levels(*parts: tuple[float, float]) -> Peaks:
    """(seconds, dBFS) one after the other, ten entries a second."""
    rms = np.concatenate([np.full(round(seconds * 10), 32_768 * 10 ** (db / 20)) for seconds, db in parts])
    rms = np.minimum(np.rint(rms), 32_767)
    return Peaks(8000, 800, np.stack((-rms, rms, rms), axis=1).astype(np.int16))


def sections(peaks: Peaks, margin: float = 12, gap: float = 2, minimum: float = 0.5) -> list[Section]:
    return loud_sections(peaks, margin, gap, minimum)


def test_what_rises_above_the_floor_is_found_to_a_tenth_of_a_second() -> None:
    (found,) = sections(of_levels((60, -50), (3, -30), (60, -50)))
    assert (found.start, found.end, found.level_db) == (60.0, 63.0, -30.0)
    assert found.above_db == pytest.approx(20, abs=0.2)


@pytest.mark.parametrize(("rise", "count"), [(11.5, 0), (12.5, 1)])
def test_the_margin_decides(rise: float, count: int) -> None:
    assert len(sections(of_levels((60, -50), (3, -50 + rise), (60, -50)))) == count


@pytest.mark.parametrize(("pause", "count"), [(1.9, 1), (2.1, 2)])
def test_short_pauses_do_not_part_a_section(pause: float, count: int) -> None:
    assert len(sections(of_levels((60, -50), (3, -30), (pause, -50), (3, -30), (60, -50)))) == count


@pytest.mark.parametrize(("seconds", "count"), [(0.4, 0), (0.5, 1)])
def test_a_click_is_no_section(seconds: float, count: int) -> None:
    assert len(sections(of_levels((60, -50), (seconds, -30), (60, -50)))) == count


def test_the_floor_follows_the_place() -> None:
    """A machine that is switched on is loud for a while, and then the floor that others rise above."""
    found = sections(of_levels((300, -60), (300, -40), (3, -20), (300, -40)))
    assert [section.level_db for section in found] == [-40.0, -20.0]
    assert found[0].end - found[0].start < 60


def test_digital_silence_is_no_floor_and_nothing_no_section() -> None:
    assert sections(of_levels((60, -200), (3, -75), (60, -200))) == []
    assert sections(of_levels((0, 0))) == []
    assert noise_floor(levels(of_levels((0, 0))), 0.1).size == 0


def test_a_file_shorter_than_the_window_has_a_floor_too() -> None:
    (found,) = sections(of_levels((4, -50), (1, -30)))
    assert (found.start, found.end) == (4.0, 5.0)


def test_points_keep_what_is_lowest_and_highest() -> None:
    entries = np.zeros((1001, 3), np.int16)
    entries[500] = (-5, 7, 6)
    found = reduced(Peaks(8000, 800, entries), 100)
    assert len(found["low"]) == len(found["high"]) == len(found["rms"]) == 91
    assert found["seconds_each"] == pytest.approx(1.1)
    assert (min(found["low"]), max(found["high"])) == (-5, 7)
    assert found["rms"][500 // 11] == round((36 / 11) ** 0.5)
    assert reduced(Peaks(8000, 800, entries[:0]), 100)["low"] == []
