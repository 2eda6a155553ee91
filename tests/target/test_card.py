"""From the USB device to the names that programs use."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from tests.target.proof import must

Facts = dict[str, Any]

GRAPH = Path(__file__).parents[2] / "asound.conf"
CONVERGE = "Run site.yml with --tags audio."


def test_asound_conf_is_the_one_of_this_checkout(facts: Facts) -> None:
    must(facts["files"]["/etc/asound.conf"], "/etc/asound.conf is not there", CONVERGE)
    same = facts["asound_sha256"] == hashlib.sha256(GRAPH.read_bytes()).hexdigest()
    must(same, "/etc/asound.conf is not the asound.conf of this checkout", f"Somebody edited it? {CONVERGE}")


@pytest.mark.live
def test_arecord_lists_the_card_mic(facts: Facts) -> None:
    listed = facts["arecord"]["out"]
    cards = re.findall(r"(?m)^card \d+: (\S+) ", listed)
    others = f"arecord -l lists {', '.join(cards) or 'no card'}"
    cure = (
        "Plug the microphone in; if it is, dmesg tells of its cable and power."
        if not any(card["usb"] for card in facts["cards"])
        else f"{CONVERGE} With two microphones, audio_mic_serial or audio_mic_port says which."
    )
    must("mic" in cards, f"there is no card `mic`: {others}", cure)


@pytest.mark.live
def test_programs_find_the_shared_names(facts: Facts) -> None:
    names = {line for line in facts["pcms"]["out"].splitlines() if line and not line[0].isspace()}
    missing = [name for name in ("shared_mic", "shared_speaker", "default") if name not in names]
    said = facts["pcms"]["err"].splitlines()[-1:]
    must(not missing, f"arecord -L does not list {', '.join(missing)} {' '.join(said)}".rstrip(), CONVERGE)


@pytest.mark.live
def test_the_group_audio_may_use_the_devices(facts: Facts) -> None:
    nodes = facts["nodes"]
    must(nodes, "/dev/snd has no device", "Plug the microphone in.")
    wrong = [
        f"{path} is {each['owner']}:{each['group']} {each['mode']}"
        for path, each in nodes.items()
        if each["group"] != "audio" or (int(each["mode"], 8) & 0o060) != 0o060
    ]
    must(not wrong, "; ".join(wrong), "A rule in /etc/udev/rules.d takes them from group audio: remove it.")


@pytest.mark.live
def test_the_driver_is_loaded(facts: Facts) -> None:
    must(
        "snd_usb_audio" in facts["modules"],
        "the module snd_usb_audio is not loaded",
        "modprobe snd_usb_audio; if that fails, look for a blacklist in /etc/modprobe.d.",
    )


@pytest.mark.live
def test_the_microphone_never_sleeps(facts: Facts) -> None:
    sleepy = [card["name"] for card in facts["cards"] if card["usb"] and card["power"] != "on"]
    must(not sleepy, f"USB autosuspend is on for {', '.join(sleepy)}", f"{CONVERGE} Then replug it.")


@pytest.mark.live
def test_onboard_sound_is_off(facts: Facts) -> None:
    other = re.search(r'speaker_card "(?!mic"|speaker"|none")(\w+)"', facts["overrides"])
    if other:
        pytest.skip(f"the loudspeaker is the onboard card {other[1]}")
    must(
        "snd_bcm2835" not in facts["modules"],
        "the onboard sound card's driver snd_bcm2835 is loaded",
        f"{CONVERGE} Then reboot.",
    )


@pytest.mark.live
def test_the_microphone_is_not_muted(facts: Facts) -> None:
    muted = [
        f"{name} ({said})"
        for name, said in facts["mixer"].items()
        if "[off]" in said or re.search(r"\[0%\]", said)
    ]
    must(
        not muted,
        f"the mixer holds the microphone back: {'; '.join(muted)}",
        "amixer -c mic sset the control to 80% cap, then alsactl store.",
    )
