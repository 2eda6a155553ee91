"""Wake words through the whole agent, in a room where the hub's voice comes back to the microphone."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.programs import Agent, Program, agent, hub, program
from tests.support.waiting import eventually

from pinna.demo import speech
from pinna.demo.sound import VirtualSound
from pinna.frame import SAMPLE_RATE

pytestmark = pytest.mark.full  # a minute; tests/integration/test_barge_in.py has the same of the engine alone

WORD = "okay_nabu"
PATIENCE_SECONDS = 60
SAID = 3
"""So often the word is said while it must not count."""


@dataclass(frozen=True)
class Room:
    """Somebody in it says the wake word every five seconds."""

    sound: VirtualSound
    talker: Program

    def times_said(self) -> int:
        return sum(line.get("talking") is False for line in self.talker.events())


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    said = tmp_path / "said.wav"
    speech.speak("en-us", WORD.replace("_", " "), said, pause_seconds=5.0)
    with (
        VirtualSound() as sound,
        program(["pinna.demo.room", str(said)], sound.environment, tmp_path, "room") as talker,
    ):
        yield Room(sound, talker)


@pytest.fixture
def listening(room: Room, tmp_path: Path) -> Callable[..., Any]:
    """An agent in that room that listens for the word: a function of its hub's address and more flags."""

    def run(hub_url: str, *flags: str) -> Any:
        state = ["--session-state-dir", str(tmp_path / "state"), "--session-mode", "wakeword"]
        return agent(room.sound, tmp_path, hub_url, *state, *flags)

    return run


def until_it_listens(running: Agent) -> None:
    running.wait_connected(PATIENCE_SECONDS)
    eventually(
        lambda: running.health()["components"]["wakeword"]["state"] == "ok", PATIENCE_SECONDS, what="listens"
    )


def state(running: Agent) -> tuple[str, str]:
    told = running.health()["session"]
    return told["state"], told["by"]


def opened(running: Agent) -> None:
    eventually(lambda: state(running) == ("session", f"wake word {WORD}"), PATIENCE_SECONDS, what="a session")


def test_while_the_hub_speaks_a_word_does_not_count_and_afterwards_it_does(
    room: Room, listening: Callable[..., Any], tmp_path: Path
) -> None:
    hiss = tmp_path / "hiss.wav"  # a voice without a pause
    with wave.open(str(hiss), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        noise = np.random.default_rng(1).normal(0, 600, 10 * SAMPLE_RATE)
        file.writeframes(noise.astype(np.int16).tobytes())
    with (
        hub(room.sound, tmp_path, "say", str(hiss), "--repeat") as (speaking, url),
        listening(url) as running,
    ):
        until_it_listens(running)
        eventually(lambda: running.health()["tts_frames_received"] > 100, what="the hub speaks")
        before = room.times_said()
        eventually(lambda: room.times_said() > before + SAID, PATIENCE_SECONDS, what="the word is said")
        assert state(running) == ("listening", "start")
        speaking.stop()
        opened(running)


def test_with_barge_in_it_counts_while_the_hub_speaks(
    room: Room, listening: Callable[..., Any], tmp_path: Path
) -> None:
    far = tmp_path / "far.wav"
    speech.speak(*speech.FAR, far, pause_seconds=0.0)
    with (
        hub(room.sound, tmp_path, "say", str(far), "--repeat") as (_, url),
        listening(url, "--session-barge-in", "on") as running,
    ):
        until_it_listens(running)
        opened(running)
        before = running.health()["tts_frames_received"]
        eventually(lambda: running.health()["tts_frames_received"] > before, what="the hub goes on speaking")
        assert running.health()["echo"]["engine"] == "speexdsp"
