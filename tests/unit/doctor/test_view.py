"""What a person reads: the chain, the first broken link with evidence and cure; colour on terminals alone."""

from __future__ import annotations

from typing import Any

from pinna.doctor import view
from pinna.doctor.judge import judge
from pinna.doctor.looking import Report
from pinna.errors import LookError

Snapshot = dict[str, Any]


def report(data: Snapshot, place: str = "kitchen") -> Report:
    return Report(place, data, judge(data))


def mute(data: Snapshot) -> None:
    data["alsa"]["listened"].update(frames=96000, swing=0)
    data["mixer"]["controls"] = {"Mic": "Mono: Capture 0 [0%] [off]"}


def test_a_healthy_chain_has_every_link_and_the_verdict(healthy: Snapshot) -> None:
    text = view.drawn(report(healthy), colour=False)
    assert text.splitlines()[0].startswith(
        "kitchen: Debian GNU/Linux 13 (trixie), sound as user pinna has it"
    )
    assert text.splitlines()[-1] == "Healthy: the microphone is heard."
    assert "\033" not in text


def test_a_broken_link_has_evidence_and_a_cure_to_paste(healthy: Snapshot) -> None:
    mute(healthy)
    text = view.drawn(report(healthy), colour=False)
    assert "BROKEN    sound" in text
    assert "│ Mic: Mono: Capture 0 [0%] [off]" in text
    assert "\n" + " " * 36 + "amixer -q -c 0 sset 'Mic' 80% cap\n" in text
    assert "(cause: microphone-muted)" in text
    assert "Healthy" not in text


def test_colour_is_for_terminals(healthy: Snapshot) -> None:
    mute(healthy)
    assert "\033[1;31mBROKEN" in view.drawn(report(healthy), colour=True)


def test_what_was_not_seen_is_no_verdict(healthy: Snapshot) -> None:
    del healthy["alsa"]
    seen = report(healthy)
    assert seen.exit_code == 14
    assert "not all could be" in view.drawn(seen, colour=False)


def test_strangers_words_move_no_cursor(healthy: Snapshot) -> None:
    healthy["usb"][0]["product"] = "SH\033[2J\r\n04\u202e"
    text = view.drawn(report(healthy), colour=False)
    assert "SH\\x1b[2J\\r\\n04\\u202e" in text
    assert len(text.splitlines()) == 13


def test_many_places_end_in_one_line(healthy: Snapshot) -> None:
    well = report(healthy)
    lost = Report("hall", {}, error=LookError("no way into hall", hint="Is it on?"))
    assert view.summary([well, well]) == "2 of 2 healthy"
    assert view.summary([well, lost]) == "1 of 2 healthy; not: hall (not all seen)"


def test_changes_are_told_once_each(healthy: Snapshot) -> None:
    before = judge(healthy)
    assert view.changes(before, before, colour=False) == []
    mute(healthy)
    (line,) = view.changes(before, judge(healthy), colour=False)
    assert line.startswith("sound: BROKEN: the mixer holds the microphone back: Mic.")
