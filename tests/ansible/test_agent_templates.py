"""What role agent writes: a configuration that the agent accepts, and a service that is confined."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_play import local_play, render

BASIC = {
    "pinna_target": "image",
    "pinna_device_id": "kitchen",
    "pinna_hub_url": "http://hub.local:8080",
    "pinna_hub_token": "",
}


def rendered(folder: Path, template: str, variables: dict[str, Any]) -> str:
    return render(folder, "agent", template, {**BASIC, **variables})


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pinna", "config", "check", folder / "rendered"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        (
            {},
            {
                "device_id": "kitchen",
                "audio": {"input": "shared_mic", "output": "shared_speaker"},
                "hub": {"url": "http://hub.local:8080", "token_file": ""},
                "log": {"format": "json"},
            },
        ),
        (
            {"pinna_hub_token": "s3cret"},
            {
                "hub": {
                    "url": "http://hub.local:8080",
                    "token_file": "/run/credentials/pinna-agent.service/hub_token",
                }
            },
        ),
        (
            {"agent_session_mode": "button+wakeword", "agent_wake_words": ["alexa"], "agent_led_pin": "22"},
            {
                "session": {
                    "mode": "button+wakeword",
                    "wake_words": ["alexa"],
                    "button_pin": 17,
                    "led_pin": 22,
                }
            },
        ),
        ({"audio_speaker": "none"}, {"audio": {"input": "shared_mic", "output": "none"}}),
        (
            {
                "agent_settings": {
                    "audio": {"latency_ms": 120, "output": 'the "big" one \\ 1'},
                    "echo": {"engine": "none"},
                    "hub": {"ice_servers": ["stun:stun.local:3478"], "reconnect_seconds": 1.5},
                }
            },
            {
                "audio": {"input": "shared_mic", "output": 'the "big" one \\ 1', "latency_ms": 120},
                "echo": {"engine": "none"},
                "hub": {
                    "url": "http://hub.local:8080",
                    "token_file": "",
                    "ice_servers": ["stun:stun.local:3478"],
                    "reconnect_seconds": 1.5,
                },
            },
        ),
    ],
)
def test_the_configuration_says_what_the_variables_say(
    tmp_path: Path, variables: dict[str, Any], wanted: dict[str, Any]
) -> None:
    text = rendered(tmp_path, "pinna.toml.j2", variables)
    found = tomllib.loads(text)
    assert {key: found[key] for key in wanted} == wanted
    assert check(tmp_path).returncode == 0
    assert "s3cret" not in text


def test_a_setting_that_does_not_exist_is_refused_by_the_agent(tmp_path: Path) -> None:
    """The role has the agent itself check what it wrote."""
    rendered(tmp_path, "pinna.toml.j2", {"agent_settings": {"audio": {"latency": 120}}})
    done = check(tmp_path)
    assert done.returncode == 3
    assert "audio.latency_ms" in done.stderr


def test_the_service_is_confined(tmp_path: Path) -> None:
    """Exposure as systemd counts it, at most 2.0 of 10."""
    unit = tmp_path / "pinna-agent.service"
    unit.write_text(rendered(tmp_path, "pinna-agent.service.j2", {}))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_service_follows_the_variables(tmp_path: Path) -> None:
    lines = rendered(
        tmp_path, "pinna-agent.service.j2", {"agent_watchdog_seconds": 45, "agent_realtime_priority": 40}
    ).splitlines()
    assert {"WatchdogSec=45", "LimitRTPRIO=40"} <= set(lines)


@pytest.mark.parametrize(
    ("variables", "gpio"),
    [
        ({}, False),
        ({"agent_session_mode": "wakeword"}, False),
        ({"agent_session_mode": "button"}, True),
        ({"agent_led_pin": 22}, True),
        ({"agent_settings": {"session": {"mode": "button+wakeword"}}}, True),
    ],
)
def test_the_service_may_use_gpio_only_where_it_has_to(
    tmp_path: Path, variables: dict[str, Any], gpio: bool
) -> None:
    lines = rendered(tmp_path, "pinna-agent.service.j2", variables).splitlines()
    assert ("DeviceAllow=char-gpiochip rw" in lines) is gpio
    assert f"SupplementaryGroups=audio{' gpio' if gpio else ''}" in lines


def validate(folder: Path, variables: dict[str, Any]) -> str:
    """What the role says of values that it must refuse."""
    step = {"name": "agent", "tasks_from": "validate"}
    play = {
        "name": "Check the values",
        "tasks": [{"name": "Check", "ansible.builtin.include_role": step}],
    }
    done = local_play(folder, play, variables={**BASIC, **variables})
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_bad_values_are_refused_by_name_all_at_once(tmp_path: Path) -> None:
    told = validate(
        tmp_path,
        {
            "pinna_device_id": "my pi",
            "pinna_hub_url": "http://me@hub.local",
            "agent_session_mode": "sometimes",
            "agent_wake_words": ["computer"],
            "agent_button_pin": 600,
            "agent_led_pin": "red",
            "agent_watchdog_seconds": 2,
            "agent_realtime_priority": 99,
            "agent_keep_releases": 1,
            "agent_update_timeout_seconds": 1,
        },
    )
    for words in (
        'pinna_device_id is \\"my pi\\", but must be 1 to 64 letters',
        "pinna_hub_url is",
        "without user name and password",
        'agent_session_mode is \\"sometimes\\", but must be one of always, request',
        "agent_wake_words is [",
        "agent_button_pin is 600, but must be 0 to 511",
        'agent_led_pin is \\"red\\", but must be -1 (none) to 511',
        "agent_watchdog_seconds is 2, but must be at least 10",
        "agent_realtime_priority is 99, but must be 1 to 98",
        "agent_keep_releases is 1, but must be at least 2",
        "agent_update_timeout_seconds is 1, but must be at least 10",
    ):
        assert words in told


def test_a_token_that_is_none_is_refused_and_not_shown(tmp_path: Path) -> None:
    told = validate(tmp_path, {"pinna_hub_token": "not one word"})
    assert "pinna_hub_token is no token" in told
    assert "not one word" not in told
