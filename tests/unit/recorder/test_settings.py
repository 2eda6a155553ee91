"""The recorder's configuration: inheritance, what is refused and how, and ISR's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinna.errors import ConfigError, DeviceError
from pinna.recorder.capture import Pcm, resolve
from pinna.recorder.settings import load


def write(tmp_path: Path, text: str, name: str = "recorder.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_sources_inherit_what_general_says_and_override_it(tmp_path: Path):
    text = """
[general]
directory = "/srv/audio"
split_minutes = 15
format = "wav"
[sources.kitchen]
device = "shared_mic"
[sources.hall]
device = "hw:1,0"
format = "flac"
"""
    loaded = load(write(tmp_path, text))
    kitchen, hall = loaded.sources
    assert loaded.directory == Path("/srv/audio")
    assert (kitchen.format, kitchen.split_minutes, kitchen.device) == ("wav", 15, "shared_mic")
    assert (hall.format, hall.split_minutes) == ("flac", 15)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "there is no source"),
        ("nonsense", "is not valid TOML"),
        ("[source.a]\n", "there is no table 'source'"),
        ("[sources.a]\ndevise = 'x'", "did you mean device?"),
        ("[sources.a]\nsplit_minutes = 7", "divides a day"),
        ("[sources.a]\nrate = true", "a whole number"),
        ("[sources.a]\nformat = 'mp3'", "one of wav, flac, opus"),
        ("[sources.a]\nformat = 'opus'\nrate = 44100", "opus has no rate 44100"),
        ("[sources.a]\ntimezone = 'Mars/Olympus'", "a time zone"),
        ("[sources.'../etc']\n", "give it a name of letters"),
        ("[general]\ndirectory = 'here'\n[sources.a]\n", "an absolute path"),
        ("sources = 3", "is no table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, cause: str):
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, text))
    assert cause in str(raised.value)
    assert "recorder.toml" in str(raised.value)
    assert raised.value.permanent


def test_everything_wrong_is_listed_at_once(tmp_path: Path):
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, "[sources.a]\nrate = 1\nbits = 8\n[sources.b]\nchannels = 99"))
    assert [word in str(raised.value) for word in ("rate", "bits", "channels")] == [True] * 3


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")


ISR = """
[general]
output_directory = /srv/recordings
split_minutes = 30
log_file = /var/log/isr.log
format = flac

[Desk mic]
type = soundcard
device = hw:2,0
sample_rate = 44100

[default]
type = soundcard
device = monitor
"""


def test_an_isr_file_is_read_as_it_is_with_notes(tmp_path: Path):
    loaded = load(write(tmp_path, ISR, "config.ini"))
    desk, default = loaded.sources
    assert loaded.directory == Path("/srv/recordings")
    assert (desk.name, desk.device, desk.rate, desk.split_minutes, desk.format) == (
        "Desk_mic",
        "hw:2,0",
        44_100,
        30,
        "flac",
    )
    assert (default.name, default.device) == ("default", "monitor")
    assert loaded.notes == ("[general] log_file is not understood and left out",)


@pytest.mark.parametrize("text", ["no section", "[a]\nkey without value", "[a]\n[a]\n"])
def test_a_bad_ini_file_is_named(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=r"config\.ini is no INI file"):
        load(write(tmp_path, text, "config.ini"))


PCMS = [
    Pcm("plughw:CARD=mic,DEV=0", "SH-04, USB Audio"),
    Pcm("plughw:CARD=Loopback,DEV=1", "Loopback, Loopback PCM"),
    Pcm("plughw:CARD=cam,DEV=0", "HD Webcam, USB Audio"),
    Pcm("shared_mic", "The microphone, shared"),
]


@pytest.mark.parametrize(
    ("wanted", "pcm"),
    [
        ("default", "default"),
        ("shared_mic", "shared_mic"),
        ("hw:1,0", "plughw:1,0"),
        ("hw:CARD=mic,DEV=0", "plughw:CARD=mic,DEV=0"),
        ("sh-04", "plughw:CARD=mic,DEV=0"),
        ("webcam", "plughw:CARD=cam,DEV=0"),
        ("monitor", "plughw:CARD=Loopback,DEV=1"),
        ("hidden_pcm", "hidden_pcm"),
    ],
)
def test_devices_are_found_by_what_operators_call_them(wanted: str, pcm: str):
    assert resolve(wanted, PCMS) == pcm


def test_a_name_that_fits_two_cards_is_refused_with_both():
    with pytest.raises(DeviceError, match="fits 2 cards: plughw:CARD=mic,DEV=0, plughw:CARD=cam,DEV=0"):
        resolve("usb", PCMS)


def test_no_loopback_card_no_monitor():
    with pytest.raises(DeviceError, match="snd-aloop"):
        resolve("monitor", PCMS[:1])
