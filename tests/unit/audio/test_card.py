from __future__ import annotations

import pytest

from pinna.audio.card import Card, Direction, Format, choose_format, find_card
from pinna.errors import DeviceError

CARDS = [
    Card(0, "HDA Intel: ALC (hw:0,0)", 2, 2, 44100.0),
    Card(1, "SH-04: USB Audio (hw:1,0)", 1, 2, 48000.0),
    Card(2, "shared_mic", 1, 0, 48000.0),
    Card(3, "shared_speaker", 0, 2, 48000.0),
    Card(4, "default", 32, 32, 48000.0, is_default_input=True, is_default_output=True),
]


@pytest.mark.parametrize(
    ("wanted", "direction", "index"),
    [
        ("default", "input", 4),
        ("1", "input", 1),
        ("hw:1,0", "output", 1),
        ("hw:1", "input", 1),
        ("SH-04: USB Audio (hw:1,0)", "input", 1),
        ("sh-04", "input", 1),
        ("shared_mic", "input", 2),
        ("shared", "output", 3),  # shared_mic has no output: it does not make the name ambiguous
        (" shared_mic ", "input", 2),
    ],
)
def test_found(wanted: str, direction: Direction, index: int) -> None:
    assert find_card(wanted, direction, CARDS).index == index


@pytest.mark.parametrize(
    ("wanted", "direction", "words"),
    [
        ("SH-05", "input", ("'SH-05'", "fits no sound device", "'shared_mic'")),
        ("hw:7,0", "input", ("'hw:7,0'", "fits no")),
        ("99", "input", ("'99'",)),
        ("a", "input", ("fits 4 devices", "'shared_mic'")),
        ("shared_mic", "output", ("no output channels", "'shared_speaker'")),
    ],
)
def test_not_found_says_what_there_is(wanted: str, direction: Direction, words: tuple[str, ...]) -> None:
    with pytest.raises(DeviceError) as caught:
        find_card(wanted, direction, CARDS)
    for word in words:
        assert word in str(caught.value)


def test_no_device_at_all() -> None:
    with pytest.raises(DeviceError, match="PortAudio sees: nothing"):
        find_card("default", "input", [])


def test_default_without_a_pcm_of_that_name_is_portaudios() -> None:
    assert find_card("default", "input", [Card(7, "USB", 1, 0, 48000.0, is_default_input=True)]).index == 7


def only(channels: int | None = None, rate: int | None = None):  # type: ignore[no-untyped-def]
    def opens(_direction: Direction, _card: Card, count: int, hertz: int) -> bool:
        return (channels is None or count == channels) and (rate is None or hertz == rate)

    return opens


def test_mono_from_the_microphone_and_stereo_to_the_loudspeaker_at_48_khz_when_it_can_be_had() -> None:
    assert choose_format(CARDS[4], CARDS[3], only()) == Format(4, 3, 1, 2, 48000)
    assert choose_format(CARDS[1], CARDS[4], only()) == Format(1, 4, 1, 2, 48000)


def test_a_mono_loudspeaker() -> None:
    assert choose_format(CARDS[4], CARDS[4], only(channels=1)) == Format(4, 4, 1, 1, 48000)


def test_a_stereo_card() -> None:
    assert choose_format(CARDS[0], CARDS[0], only(channels=2)) == Format(0, 0, 2, 2, 48000)


def test_a_card_of_44100_hz() -> None:
    chosen = choose_format(CARDS[1], CARDS[3], only(rate=44100))
    assert (chosen.rate, chosen.block) == (44100, 882)


def test_without_a_loudspeaker() -> None:
    assert choose_format(CARDS[2], None, only()) == Format(2, None, 1, 0, 48000)


def test_nothing_suits() -> None:
    with pytest.raises(DeviceError, match="no sample rate suits"):
        choose_format(CARDS[1], CARDS[3], only(rate=22050))
