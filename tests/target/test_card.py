"""Of the names that programs use, what the doctor does not judge: it may be otherwise, and work."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from tests.target.proof import must, must_have_seen

from pinna.doctor.finding import Snapshot

Facts = dict[str, Any]

GRAPH = Path(__file__).parents[2] / "asound.conf"
CONVERGE = "Run site.yml with --tags audio."


def test_asound_conf_is_the_one_of_this_checkout(facts: Facts) -> None:
    must(facts["files"]["/etc/asound.conf"], "/etc/asound.conf is not there", CONVERGE)
    same = facts["asound_sha256"] == hashlib.sha256(GRAPH.read_bytes()).hexdigest()
    must(same, "/etc/asound.conf is not the asound.conf of this checkout", f"Somebody edited it? {CONVERGE}")


@pytest.mark.live
def test_programs_find_the_shared_names(snapshot: Snapshot) -> None:
    must_have_seen(snapshot, "alsa")
    names = snapshot.texts("alsa", "pcms")
    missing = [name for name in ("shared_mic", "shared_speaker", "default") if name not in names]
    must(not missing, f"ALSA's configuration does not define {', '.join(missing)}", CONVERGE)


@pytest.mark.live
def test_the_group_audio_may_use_the_devices(snapshot: Snapshot) -> None:
    must_have_seen(snapshot, "nodes")
    wrong = [
        f"{path} is {each['owner']}:{each['group']} {each['mode']}"
        for path, each in snapshot.table("nodes", "nodes").items()
        if each["group"] != "audio" or (int(each["mode"], 8) & 0o060) != 0o060
    ]
    must(not wrong, "; ".join(wrong), "A rule in /etc/udev/rules.d takes them from group audio: remove it.")


@pytest.mark.live
def test_no_sound_device_ever_sleeps(snapshot: Snapshot) -> None:
    must_have_seen(snapshot, "usb")
    sleepy = [each["product"] for each in snapshot.audio_devices if each["control"] != "on"]
    must(not sleepy, f"USB autosuspend is on for {', '.join(sleepy)}", f"{CONVERGE} Then replug it.")


@pytest.mark.live
def test_onboard_sound_is_off(facts: Facts, snapshot: Snapshot) -> None:
    other = re.search(r'speaker_card "(?!mic"|speaker"|none")(\w+)"', facts["overrides"])
    if other:
        pytest.skip(f"the loudspeaker is the onboard card {other[1]}")
    must_have_seen(snapshot, "modules")
    must(
        "snd_bcm2835" not in snapshot.texts("modules", "loaded"),
        "the onboard sound card's driver snd_bcm2835 is loaded",
        f"{CONVERGE} Then reboot.",
    )
