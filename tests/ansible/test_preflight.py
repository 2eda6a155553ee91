"""Role preflight on this machine, as if it were an image: what it refuses, by name, and that nothing changed.

The playbook lists the other roles too, as site.yml does; the tag keeps them from running.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_play import local_play

PLAY = {
    "name": "Look before anything changes",
    "roles": [
        {"role": "pinna", "tags": ["always"]},
        {"role": "preflight", "tags": ["always"]},
        {"role": "base", "tags": ["base"]},
        {"role": "audio", "tags": ["audio"]},
        {"role": "hardening", "tags": ["hardening"]},
        {"role": "agent", "tags": ["agent"]},
    ],
}


def preflight(folder: Path, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    given = {
        "pinna_target": "image",
        "preflight_any_os": True,
        "pinna_hub_url": "http://hub",
        **variables,
    }
    return local_play(folder, PLAY, "--tags", "always", variables=given)


def test_the_defaults_pass_and_change_nothing(tmp_path: Path) -> None:
    done = preflight(tmp_path, {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert "[DEPRECATION" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"audio_mic_rate": "fast"}, ["audio_mic_rate", "8000"]),
        ({"audio_mic_rate": 12345}, ["value of audio_mic_rate must be one of", "44100, 48000", "got: 12345"]),
        ({"base_journal_max_mb": "much"}, ["base_journal_max_mb", "int"]),
        ({"base_hostname": "my pi"}, ['base_hostname is "my pi"', "letters, digits and hyphens"]),
        ({"base_watchdog_seconds": 60}, ["base_watchdog_seconds is 60", "0 to 15"]),
        ({"pinna_target": "real"}, ["pinna_target must be one of: live, image, got: real"]),
        ({"pinna_docker": "some"}, ["pinna_docker", "bool"]),
        ({"audio_mic_port": "front left"}, ['audio_mic_port is "front left"', "such as 1-1.2"]),
        ({"audio_speaker_usb_id": "0d8c"}, ['audio_speaker_usb_id is "0d8c"', "such as 4c4a:4155"]),
        ({"audio_mic_serial": 1.0e5}, ["audio_mic_serial is 100000.0", "put it in quotes"]),
        (
            {"hardening_tcp_ports": "8081"},
            ['hardening_tcp_ports is "8081"', "list of ports, such as [8081]"],
        ),
        ({"hardening_udp_ports": [0]}, ["hardening_udp_ports is [0]", "a list of ports"]),
        (
            {"agent_settings": '{"echo": {"engine": true}}'},
            ["agent_settings is", "True and False"],
        ),
        ({"audio_buffer_ms": 15}, ["audio_buffer_ms is 15", "20 (two periods) to 2000"]),
        (
            {"preflight_any_os": False, "_preflight_releases": ["99"]},
            ["is not supported", "Debian 12 and 13", "preflight_any_os"],
        ),
    ],
)
def test_bad_input_is_refused_by_name(tmp_path: Path, variables: dict[str, Any], said: list[str]) -> None:
    done = preflight(tmp_path, variables)
    told = done.stdout + done.stderr
    assert done.returncode == 2, told
    for words in said:
        assert words in told
    assert "changed=0" in done.stdout


def test_the_system_that_is_refused_is_named(tmp_path: Path) -> None:
    release = Path("/etc/os-release").read_text()
    (name,) = [
        line.split("=", 1)[1].strip('"') for line in release.splitlines() if line[:12] == "PRETTY_NAME="
    ]
    done = preflight(tmp_path, {"preflight_any_os": False, "_preflight_releases": []})
    assert f"{name} is not supported." in done.stdout + done.stderr
