"""Devices that exist only in memory, and voices for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.programs import program

from pinna.demo import speech
from pinna.demo.sound import VirtualSound


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two spoken WAV files, mono 48 kHz: `near` and `far`."""
    folder = tmp_path_factory.mktemp("voices")
    paths = {"near": folder / "near.wav", "far": folder / "far.wav"}
    speech.speak(*speech.NEAR, paths["near"], pause_seconds=1.0)
    speech.speak(*speech.FAR, paths["far"], pause_seconds=1.0)
    return paths


@pytest.fixture(scope="module")
def sound(voices: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualSound]:
    """A sound server with a room: someone speaks, and what is played comes back as an echo."""
    folder = tmp_path_factory.mktemp("room")
    with (
        VirtualSound() as server,
        program(["pinna.demo.room", str(voices["near"])], server.environment, folder, "room"),
    ):
        yield server


@pytest.fixture
def fragile_sound() -> Iterator[VirtualSound]:
    """A sound server of the test's own, to be stopped and started."""
    with VirtualSound() as server:
        yield server
