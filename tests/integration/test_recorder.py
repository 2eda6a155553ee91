"""`pinna record` with a sound server: several sources, cards that go and come, clean ends, verification."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import soundfile
from tests.support.recorders import command, recorder
from tests.support.waiting import eventually

from pinna.demo.sound import MICROPHONE, VirtualSound

ROOT = Path(__file__).parents[2]
BOTH = f"""
[sources.voice]
device = "{MICROPHONE}"
format = "wav"

[sources.small]
device = "{MICROPHONE}"
format = "opus"
rate = 16000
"""


def test_two_sources_record_end_cleanly_and_are_proven_until_a_bit_flips(
    fragile_sound: VirtualSound, tmp_path: Path
):
    with recorder(fragile_sound, tmp_path, BOTH) as running:
        running.wait_recording("voice", 2)
        running.wait_recording("small", 2, 16_000)
        assert running.program.stop() == 0
    assert not (tmp_path / "status.json").exists()
    code, reports = running.verify()
    assert code == 0
    assert [report["source"] for report in reports] == ["small", "voice"]
    for report, rate in zip(reports, (16_000, 48_000), strict=True):
        assert report["proven"] is True
        assert report["gaps"] == []
        paths = sorted(
            path for path in (running.archive / report["source"]).glob("*/*_*") if path.suffix != ".peaks"
        )
        assert sum(soundfile.info(path).frames for path in paths) == report["samples"] > 2 * rate

    path = next((running.archive / "voice").glob("*/*.wav"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, (_, voice) = running.verify()
    assert code == 11
    assert voice["proven"] is False
    assert running.verify("--source", "small")[0] == 0
    assert "has been changed" in command("archive", "verify", str(running.archive)).stdout


def test_killed_it_goes_on_and_says_what_is_missing(fragile_sound: VirtualSound, tmp_path: Path):
    with recorder(fragile_sound, tmp_path, BOTH) as first:
        first.wait_recording("voice", 1)
        first.wait_recording("small", 1, 16_000)
        before = first.source("voice")["recorded_samples"]
        children = psutil.Process(first.program.process.pid).children()
        first.program.stop(signal.SIGKILL)
        psutil.wait_procs(children, 10)
        assert not any(child.is_running() for child in children)  # arecord lets go of the card
    with recorder(fragile_sound, tmp_path, BOTH, "again") as again:
        again.wait_recording("voice", 1)
        again.wait_recording("small", 1, 16_000)
        assert again.program.stop() == 0
    code, (small, voice) = again.verify()
    assert code == 0
    for report in (small, voice):
        (gap,) = report["gaps"]
        assert (gap["reason"], gap["detail"]) == ("restart", "killed or without power")
    assert voice["samples"] > before + 48_000


def test_a_card_that_goes_comes_back_with_a_gap(fragile_sound: VirtualSound, tmp_path: Path):
    with recorder(fragile_sound, tmp_path, BOTH) as running:
        running.wait_recording("voice", 1)
        fragile_sound.stop(signal.SIGKILL)
        eventually(lambda: running.source("voice").get("state") == "unplug", 30, what="unplugged")
        fragile_sound.start()
        running.wait_recording("voice", 1)
        running.wait_recording("small", 1, 16_000)
        assert running.program.stop() == 0
    code, reports = running.verify()
    assert code == 0
    for report in reports:
        gap = report["gaps"][-1]  # a plugin may report its server's death as an overrun first
        assert gap["reason"] == "unplug"
        assert gap["detail"]


@pytest.mark.parametrize("kind", ["wav", pytest.param("flac", marks=pytest.mark.full)])
def test_a_disk_that_takes_no_more_is_a_gap_and_is_tried_again(
    fragile_sound: VirtualSound, tmp_path: Path, kind: str
):
    """A limit on the length of files fails writes in the real program as a full disk does."""
    text = f'[sources.voice]\ndevice = "{MICROPHONE}"\nformat = "{kind}"\nchannels = 2\n'
    with recorder(fragile_sound, tmp_path, text) as running:
        running.wait_recording("voice")
        process = psutil.Process(running.program.process.pid)
        size = max(path.stat().st_size for path in (running.archive / "voice").glob(f"*/*.{kind}"))
        process.rlimit(psutil.RLIMIT_FSIZE, (max(size + 200, 2200), resource.RLIM_INFINITY))
        eventually(lambda: running.source("voice").get("state") == "disk", 60, what="the disk is full")
        process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        running.wait_recording("voice")
        assert running.program.stop() == 0
    code, (report,) = running.verify()
    assert code == 0, report["wrong"]
    gap = next(gap for gap in report["gaps"] if gap["reason"] == "disk")
    assert gap["estimated"] is False
    assert "File too large" in gap["detail"]


def test_a_source_that_does_not_exist_is_named_the_others_go_on_and_a_second_recorder_does_not(
    fragile_sound: VirtualSound, tmp_path: Path
):
    with recorder(fragile_sound, tmp_path, BOTH + '[sources.ghost]\ndevice = "no such card"\n') as running:
        running.wait_recording("voice")
        said = eventually(lambda: running.program.events("recorder.card_lost"), what="the loss is told")
        assert said[0]["source"] == "ghost"
        assert "no such card" in said[0]["cause"]
        assert "--list-devices" in said[0]["hint"]
        assert "no such card" in running.source("ghost")["trouble"]

        words = ["record", "--config", str(tmp_path / "recorder.toml")]
        second = command(*words, environment=fragile_sound.environment)
        assert second.returncode == 15
        assert "another recorder already records into" in second.stderr
        assert running.program.stop() == 0


def test_an_archive_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "archive").write_text("a file")
    (tmp_path / "recorder.toml").write_text(f'[general]\ndirectory = "{tmp_path}/archive"\n{BOTH}')
    done = command("record", "--config", str(tmp_path / "recorder.toml"))
    assert done.returncode == 15
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_devices_are_listed():
    """By the ALSA graph that Pis get; there is no card behind it here."""
    graph = os.environ | {"ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{ROOT / 'asound.conf'}"}
    done = command("record", "--list-devices", "--json", environment=graph)
    assert done.returncode == 0
    listed = {pcm["name"]: pcm["description"] for pcm in json.loads(done.stdout)}
    assert listed["shared_mic"] == "The microphone, shared"


@pytest.mark.parametrize("words", [["archive", "verify", "/nonexistent"]])
def test_no_archive(words: list[str]):
    done = command(*words)
    assert done.returncode == 15
    assert "cannot be read" in done.stderr


def test_the_recorder_starts_without_the_agents_heavy_parts():
    program_text = (
        "import sys, pinna.cli, pinna.recorder.service\n"
        "print([name for name in ('aiortc', 'av', 'sounddevice', 'aiohttp', 'numpy', 'soundfile')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program_text], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
