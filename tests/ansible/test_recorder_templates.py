"""What role recorder writes: a configuration that the recorder accepts, and services that are confined."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_play import local_play, render

BASIC: dict[str, Any] = {
    "pinna_target": "image",
    "recorder_sources": {"kitchen": {"device": "shared_mic"}},
}
PLAY = {
    "name": "Check the values",
    "tasks": [
        {
            "name": "Check",
            "ansible.builtin.include_role": {"name": "recorder", "tasks_from": "validate"},
        }
    ],
}


def rendered(folder: Path, template: str, **variables: Any) -> str:
    return render(folder, "recorder", template, {**BASIC, **variables})


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pinna", "record", "--check", "--config", folder / "rendered"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_configuration_says_what_the_variables_say(tmp_path: Path) -> None:
    settings = {"split_minutes": 15, "max_gb": 1.5, "timezone": "Europe/Berlin", "directory": "/srv/archive"}
    sources = {
        "kitchen": {"device": "shared_mic", "format": "opus"},
        "city.radio": {"type": "stream", "url": 'http://me:p"w@radio.example:8000/live'},
    }
    text = rendered(tmp_path, "recorder.toml.j2", recorder_settings=settings, recorder_sources=sources)
    assert tomllib.loads(text) == {"general": settings, "sources": sources}
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_key_that_does_not_exist_is_refused_by_the_recorder(tmp_path: Path) -> None:
    """The role has the recorder itself check what it wrote."""
    rendered(tmp_path, "recorder.toml.j2", recorder_sources={"kitchen": {"devise": "shared_mic"}})
    done = check(tmp_path)
    assert done.returncode == 3
    assert "did you mean device?" in done.stderr


@pytest.mark.parametrize(
    ("unit", "threshold"), [("pinna-recorder.service", "21"), ("pinna-archive.service", "16")]
)
def test_the_services_are_confined(tmp_path: Path, unit: str, threshold: str) -> None:
    """Exposure as systemd counts it, in tenths, of 100; 0.6 of the recorder's is to ask about the clock."""
    path = tmp_path / unit
    path.write_text(rendered(tmp_path, f"{unit}.j2"))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={threshold}", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_services_follow_the_variables(tmp_path: Path) -> None:
    settings = {"directory": "/srv/archive"}
    recorder = rendered(tmp_path, "pinna-recorder.service.j2", recorder_settings=settings).splitlines()
    assert {"ReadWritePaths=/srv/archive", "RequiresMountsFor=/srv/archive"} <= set(recorder)
    archive = rendered(
        tmp_path,
        "pinna-archive.service.j2",
        recorder_settings=settings,
        recorder_archive_host="0.0.0.0",
        recorder_archive_port=9000,
        recorder_archive_password="s3cret",
    )
    assert "serve /srv/archive --host 0.0.0.0 --port 9000 --token-file %d/password\n" in archive
    assert "s3cret" not in archive
    assert "ReadWritePaths" not in archive


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"recorder_sources": {"kitchen": "shared_mic"}}, "recorder_sources must be a mapping"),
        ({"recorder_settings": "split_minutes=1"}, "recorder_settings"),
        (
            {"recorder_settings": {"directory": "archive"}},
            "recorder_settings.directory must be an absolute path",
        ),
        ({"recorder_settings": {"directory": "/srv/my archive"}}, "must be an absolute path"),
        ({"recorder_archive_host": "0.0.0.0 --help"}, "recorder_archive_host must be an address"),
        ({"recorder_archive_port": 80}, "recorder_archive_port must be 1024 to 65535"),
        ({"recorder_archive_host": "0.0.0.0"}, "must be there when recorder_archive_host is not a loopback"),
        ({"recorder_archive_password": "two words"}, "visible ASCII characters"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path: Path, variables: dict[str, Any], says: str) -> None:
    done = local_play(tmp_path, PLAY, variables={**BASIC, **variables})
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in (done.stdout + done.stderr).replace("\n", " ")
    assert "two words" not in done.stdout


@pytest.mark.parametrize("variables", [{}, {"recorder_archive_host": "::1"}, {"recorder_sources": {}}])
def test_good_values_are_not(tmp_path: Path, variables: dict[str, Any]) -> None:
    done = local_play(tmp_path, PLAY, variables={**BASIC, **variables})
    assert done.returncode == 0, done.stdout + done.stderr
