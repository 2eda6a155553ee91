"""When files are cut, and what they are called: also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pinna.recorder.clock import local, next_cut, quality, stamp

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "split", "cut"),
    [
        ("2026-11-21T10:00:00", 60, "2026-11-21T11:00:00"),
        ("2026-11-21T10:59:59.999", 60, "2026-11-21T11:00:00"),
        ("2026-11-21T10:07:30", 15, "2026-11-21T10:15:00"),
        ("2026-11-21T23:59:00", 5, "2026-11-22T00:00:00"),
        ("2026-11-21T10:00:00", 1440, "2026-11-22T00:00:00"),
        ("2026-03-29T01:30:00", 60, "2026-03-29T03:00:00"),  # 02:00 does not exist
        ("2026-03-29T01:59:00", 120, "2026-03-29T04:00:00"),
    ],
)
def test_cuts_are_where_the_clock_on_the_wall_says(now: str, split: int, cut: str):
    assert next_cut(at(now), split, BERLIN) == at(cut)


def test_the_hour_that_comes_twice_is_two_files_with_two_names():
    first = next_cut(at("2026-10-25T01:30:00"), 60, BERLIN)
    second = next_cut(first, 60, BERLIN)
    assert second - first == 3600
    assert [stamp(t, BERLIN) for t in (first, second)] == [
        "2026-10-25T02-00-00+0200",
        "2026-10-25T02-00-00+0100",
    ]


def test_a_midnight_that_was_skipped_still_ends_the_file():
    """Beirut, 2026-03-29: 00:00 becomes 01:00."""
    zone = ZoneInfo("Asia/Beirut")
    now = at("2026-03-28T12:00:00", zone)
    cut = next_cut(now, 1440, zone)
    assert now < cut <= now + 36 * 3600
    assert local(cut, zone).strftime("%H:%M") == "00:00"


def test_zones_of_odd_minutes():
    zone = ZoneInfo("Asia/Kathmandu")  # +05:45
    cut = next_cut(at("2026-11-21T10:20:00", zone), 60, zone)
    assert datetime.fromtimestamp(cut, UTC).minute == 15


def test_every_cut_of_a_spring_is_later_than_the_one_before():
    now, end = at("2026-03-01T00:00:00"), at("2026-04-30T00:00:00")
    count = 0
    while now < end:
        later = next_cut(now, 240, BERLIN)
        assert now < later <= now + 5 * 3600
        now, count = later, count + 1
    assert count == 60 * 6


def test_the_kernel_says_how_good_the_clock_is():
    known = quality()
    assert known.state in ("synchronised", "unsynchronised", "unknown")
    assert (known.error_ms is not None) == (known.state == "synchronised")
