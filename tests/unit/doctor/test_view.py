"""What a person reads: the chain, the first broken link with evidence and cure; colour on terminals alone."""

from __future__ import annotations

from typing import Any

import pytest

from pinna.doctor import view
from pinna.doctor.causes import CAUSES
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
    assert line.startswith("sound: BROKEN: the mixer holds the microphone back: Mic\n")
    assert "\n              amixer -q -c 0 sset 'Mic' 80% cap\n" in line


def test_what_follows_from_a_change_is_none(healthy: Snapshot) -> None:
    well = judge(healthy)
    healthy["usb"], healthy["cards"] = [], []
    ill = judge(healthy)
    (broke,) = view.changes(well, ill, colour=False)
    (healed,) = view.changes(ill, well, colour=False)
    assert broke.startswith("USB device: BROKEN")
    assert healed.startswith("USB device: ok")


def test_what_was_saved_is_dated(healthy: Snapshot) -> None:
    first = view.drawn(report(healthy), colour=False, saved=True).splitlines()[0]
    assert healthy["at"] in first
    assert f"seen on {healthy['system']['host']}" in first


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("ALSA lib pcm_dsnoop.c:567:(snd_pcm_dsnoop_open) unable to open slave", "ipc-namespaces-differ"),
        ("arecord: main:850: audio open error: Device or resource busy", "microphone-held"),
        ("OSError: [Errno -9996] Invalid input device (no default output device)", "portaudio-sees-nothing"),
        ("OSError: [Errno -10000] PortAudio not initialized", "portaudio-not-initialized"),
        ("ALSA lib confmisc.c:165:(snd_config_get_card) Cannot find card '2'", "card-number-changed"),
        ("Cannot open shared library libasound_module_pcm_pulse.so ((null))", "alsa-plugin-missing"),
    ],
)
def test_a_message_is_explained_as_it_was_pasted(message: str, cause: str) -> None:
    assert cause in [one.id for one in view.find(message)]


@pytest.mark.parametrize("message", ["error -99985", "I connected it"])
def test_a_message_that_only_looks_alike_is_not(message: str) -> None:
    assert not {"microphone-held", "rate-unsupported", "hub-no-session"} & {
        one.id for one in view.find(message)
    }


def test_names_that_only_a_look_can_fill_in_are_told_so() -> None:
    assert "fills in what is in braces" in view.explained(CAUSES["stale-ipc-objects"])
    assert "braces" not in view.explained(CAUSES["driver-not-loaded"])
    assert "braces" not in view.explained(CAUSES["no-usb-microphone"])
