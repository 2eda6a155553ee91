"""What role audio writes: the udev rule, and the values that alsa-lib then finds in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.local_play import render


def rendered(folder: Path, template: str, variables: dict[str, Any]) -> str:
    """`variables` arrive as strings, as from the command line."""
    given = {name: str(value) for name, value in variables.items()}
    return render(folder, "audio", template, {"pinna_target": "image", **given})


def claims(rule: str) -> dict[str, str]:
    """By name, the line of the rule that says which card may have it."""
    lines = [line for line in rule.splitlines() if line.endswith(('ENV{PINNA_CARD}="mic"', '="speaker"'))]
    return {line.split('"')[-2]: line for line in lines}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, {"mic": ('SUBSYSTEMS=="usb",', 'TEST=="device/pcmC%nD0c"')}),
        (
            {"audio_mic_serial": "20261120"},
            {"mic": ('ATTRS{serial}=="20261120",', 'TEST=="device/pcmC%nD0c"')},
        ),
        (
            {"audio_mic_port": "1-1.2", "audio_speaker_usb_id": "08BB:2704"},
            {
                "mic": ('KERNELS=="1-1.2:*",', 'TEST=="device/pcmC%nD0c"'),
                "speaker": (
                    'ATTRS{idVendor}=="08bb", ATTRS{idProduct}=="2704",',
                    'TEST=="device/pcmC%nD0p", ENV{PINNA_CARD}=="",',
                ),
            },
        ),
        ({"audio_speaker": "none"}, {"mic": ('TEST=="device/pcmC%nD0c"',)}),
    ],
)
def test_the_rule_names_the_chosen_cards_only(
    tmp_path: Path, variables: dict[str, Any], wanted: dict[str, tuple[str, ...]]
) -> None:
    rule = rendered(tmp_path, "70-pinna-audio.rules.j2", variables)
    found = claims(rule)
    assert found.keys() == wanted.keys()
    for name, parts in wanted.items():
        assert 'SUBSYSTEMS=="usb"' in found[name]
        for part in parts:
            assert part in found[name]
    labels = {line.split('"')[1] for line in rule.splitlines() if line.startswith("LABEL")}
    jumps = {line.split('GOTO="')[1].rstrip('"') for line in rule.splitlines() if "GOTO=" in line}
    assert jumps == labels


def test_values_from_the_command_line_reach_alsa_as_numbers(tmp_path: Path) -> None:
    text = rendered(
        tmp_path,
        "40-pinna.conf.j2",
        {
            "audio_mic_rate": 44100,
            "audio_mic_channels": 2,
            "audio_period_ms": 20,
            "audio_buffer_ms": 400,
            "audio_speaker": "Headphones",
        },
    )
    lines = [line.removeprefix("defaults.pinna.") for line in text.splitlines() if line[:1] not in ("#", "")]
    assert dict(line.split() for line in lines) == {
        "mic_rate": "44100",
        "mic_channels": "2",
        "mic_format": '"S16_LE"',
        "speaker_card": '"Headphones"',
        "speaker_rate": "48000",
        "speaker_channels": "2",
        "speaker_format": '"S16_LE"',
        "period_time": "20000",
        "buffer_time": "400000",
    }
