"""Which card is the microphone, which the loudspeaker: module pinna_cards on sysfs trees and card lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.loading import load

cards = load("audio/library/pinna_cards.py")

NONE = {"serial": "", "port": "", "usb_id": ""}
SH04 = cards.Card(0, "SH04", "SH-04", "20261120", "1-1.2", "4c4a:4155", True, True)
TWIN = replace(SH04, number=1, id="SH04_1", port="1-1.3")
LAVALIER = cards.Card(2, "Lav", "Lavalier", "", "1-1.4", "0d8c:0014", True, False)
DAC = cards.Card(3, "DAC", "DAC", "7", "1-1.5", "08bb:2704", False, True)
HDMI = cards.Card(4, "vc4hdmi", "vc4hdmi", "", "", "", False, True)


def by(**wanted: str) -> dict[str, str]:
    return {**NONE, **wanted}


def find(*present, mic=NONE, speaker="auto", speaker_by=NONE):
    return cards.find(list(present), mic, speaker, speaker_by)


def plug(sysfs: Path, number: int, port: str, pcms: tuple[str, ...], **attributes: str) -> None:
    """The part of a kernel's sysfs that tells of a USB card, laid out as the kernel does."""
    interface = sysfs / f"devices/platform/usb1/{port}/{port}:1.0"
    card = interface / f"sound/card{number}"
    card.mkdir(parents=True)
    (card / "id").write_text(f"USB{number}\n")
    for pcm in pcms:
        (card / f"pcmC{number}{pcm}").mkdir()
    for name, value in attributes.items():
        (interface.parent / name).write_text(f"{value}\n")
    bus = sysfs / "bus/usb"
    bus.mkdir(parents=True, exist_ok=True)
    (interface / "subsystem").symlink_to(bus)
    (card / "device").symlink_to(interface)
    classes = sysfs / "class/sound"
    classes.mkdir(parents=True, exist_ok=True)
    (classes / card.name).symlink_to(card)


def test_survey_of_usb_cards(tmp_path: Path) -> None:
    plug(
        tmp_path,
        10,
        "1-1.2",
        ("D0c", "D0p"),
        idVendor="4c4a",
        idProduct="4155",
        product="SH-04",
        serial="X 1",
    )
    plug(tmp_path, 2, "2-1", ("D0p", "D1c"), idVendor="08bb", idProduct="2704")
    assert cards.survey(tmp_path) == [
        cards.Card(2, "USB2", "USB2", "", "2-1", "08bb:2704", records=False, plays=True),
        cards.Card(10, "USB10", "SH-04", "X 1", "1-1.2", "4c4a:4155", records=True, plays=True),
    ]


def test_survey_of_a_card_that_is_not_on_usb(tmp_path: Path) -> None:
    card = tmp_path / "class/sound/card0"
    (card / "pcmC0D0p").mkdir(parents=True)
    (card / "id").write_text("Headphones\n")
    found = cards.Card(0, "Headphones", "Headphones", "", "", "", records=False, plays=True)
    assert cards.survey(tmp_path) == [found]


def test_survey_of_a_machine_without_sound(tmp_path: Path) -> None:
    assert cards.survey(tmp_path) == []


def test_the_only_card_is_both() -> None:
    found = find(SH04, HDMI)
    assert found["mic"]["number"] == found["speaker"]["number"] == 0
    assert found["speaker_card"] == "mic"
    assert found["mic_match"] == found["speaker_match"] == ""
    assert not found["named"]
    assert find(replace(SH04, id="mic"))["named"]


def test_a_microphone_that_cannot_play_leaves_the_speaker_to_the_other_card() -> None:
    found = find(LAVALIER, DAC)
    assert found["mic"]["name"] == "Lavalier"
    assert found["speaker"]["name"] == "DAC"
    assert found["speaker_card"] == "speaker"
    assert not find(replace(LAVALIER, id="mic"), DAC)["named"]
    assert find(replace(LAVALIER, id="mic"), replace(DAC, id="speaker"))["named"]


def test_no_speaker_yet() -> None:
    found = find(LAVALIER, HDMI)
    assert found["speaker"] is None
    assert found["speaker_card"] == "speaker"


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (by(port="1-1.3"), 1),
        (by(usb_id="0D8C:0014"), 2),
        (by(serial="", port="1-1.2"), 0),
        (by(port="1-1.4", usb_id="4c4a:4155"), 2),
    ],
)
def test_chosen_by_variable_in_their_order(wanted: dict[str, str], number: int) -> None:
    assert find(SH04, TWIN, LAVALIER, mic=wanted, speaker="none")["mic"]["number"] == number


def test_two_equal_cards_are_an_error_that_says_what_tells_them_apart() -> None:
    with pytest.raises(cards.CardError) as error:
        find(SH04, TWIN)
    text = str(error.value)
    assert "card 0 'SH-04' (serial 20261120, port 1-1.2, id 4c4a:4155; records and plays)" in text
    assert "card 1 'SH-04'" in text
    assert text.endswith("For this host set audio_mic_port to '1-1.2' or '1-1.3'.")


def test_a_serial_number_that_two_cards_have() -> None:
    with pytest.raises(
        cards.CardError, match=r"audio_mic_serial is '20261120', and 2 .* set audio_mic_port to"
    ):
        find(SH04, TWIN, mic=by(serial="20261120"))


def test_two_different_cards_can_be_told_apart_in_more_ways() -> None:
    with pytest.raises(cards.CardError, match=r"audio_mic_port to .*, or audio_mic_usb_id to") as error:
        find(SH04, LAVALIER)
    assert "audio_mic_serial" not in str(error.value)  # one has none


@pytest.mark.parametrize(("key", "value"), [("serial", "nope"), ("port", "1-1"), ("usb_id", "ffff:0000")])
def test_a_match_that_no_card_has(key: str, value: str) -> None:
    with pytest.raises(cards.CardError, match=rf"audio_mic_{key} is '{value}', .*card 0 'SH-04'"):
        find(SH04, DAC, mic=by(**{key: value}))


@pytest.mark.parametrize("mic", [NONE, by(serial="20261120")])
def test_no_microphone_is_no_error(mic: dict[str, str]) -> None:
    found = find(HDMI, mic=mic)
    assert found["mic"] is found["speaker"] is None
    assert found["speaker_card"] == "mic"
    assert found["named"]


def test_two_cards_that_play_when_the_microphone_does_not() -> None:
    with pytest.raises(cards.CardError, match=r"audio_speaker_port to .* or audio_speaker to 'none'"):
        find(LAVALIER, DAC, replace(DAC, number=5, port="1-1.1"))


def test_a_chosen_speaker_beside_a_microphone_that_could_play() -> None:
    found = find(SH04, DAC, speaker_by=by(serial="7"))
    assert found["speaker_card"] == "speaker"
    assert found["speaker"]["name"] == "DAC"
    assert find(SH04, DAC, speaker_by=by(port="1-1.2"))["speaker_card"] == "mic"


def test_a_device_without_a_loudspeaker() -> None:
    found = find(SH04, DAC, speaker="none")
    assert found["speaker"] is None
    assert found["speaker_card"] == "none"


def test_a_speaker_that_is_not_on_usb() -> None:
    assert find(SH04, HDMI, speaker="vc4hdmi")["speaker_card"] == "vc4hdmi"
    with pytest.raises(
        cards.CardError, match=r"audio_speaker is 'SH04', .*'none', 'vc4hdmi'.*audio_speaker_port"
    ):
        find(SH04, HDMI, speaker="SH04")


def test_an_image_decides_by_the_variables_alone() -> None:
    assert find()["speaker_card"] == "mic"
    assert find(mic=by(port="1-1.2"))["speaker_card"] == "mic"
    assert find(mic=by(port="1-1.2"), speaker_by=by(port="1-1.2"))["speaker_card"] == "mic"
    assert find(mic=by(port="1-1.2"), speaker_by=by(port="1-1.3"))["speaker_card"] == "speaker"
    assert find(speaker="Headphones")["speaker_card"] == "Headphones"


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (NONE, ""),
        (by(serial="A 1"), 'ATTRS{serial}=="A 1",'),
        (by(serial='A*"['), 'ATTRS{serial}=="A???",'),
        (by(port="1-1.2"), 'KERNELS=="1-1.2:*",'),
        (by(usb_id="4C4A:4155"), 'ATTRS{idVendor}=="4c4a", ATTRS{idProduct}=="4155",'),
    ],
)
def test_match_of_a_udev_rule(wanted: dict[str, str], keys: str) -> None:
    assert cards.match(wanted) == keys
