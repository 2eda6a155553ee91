from __future__ import annotations

import asyncio
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pinna.frame import FRAME_SAMPLES, Samples
from pinna.hub.modes import Echo, Listen, Record, Say
from pinna.hub.voice import Voice


def frame(value: int) -> Samples:
    return np.full(FRAME_SAMPLES, value, np.int16)


def values(frames: list[Samples | None]) -> list[int | None]:
    return [None if f is None else int(f[0]) for f in frames]


def test_echo_returns_each_frame_after_the_delay() -> None:
    heard = [frame(1), None, frame(3), frame(4)]
    for delay, expected in [(0, [1, None, 3, 4]), (40, [None, None, 1, None])]:
        echo = Echo(delay)
        assert values([echo.tick(f, Voice.SILENT) for f in heard]) == expected


def test_listen_returns_nothing() -> None:
    assert Listen().tick(frame(1), Voice.SPEAKING) is None


@pytest.mark.parametrize(
    ("start", "repeat", "expected"),
    [
        ("connect", False, [1, 2, None, None, None, None]),
        ("connect", True, [1, 2, 1, 2, 1, 2]),
        ("speech", False, [None, None, 1, 2, None, 1]),
    ],
)
def test_say(start: str, repeat: bool, expected: list[int | None]) -> None:
    say = Say(np.stack([frame(1), frame(2)]), start, repeat)  # type: ignore[arg-type]
    voices = [Voice.ONSET, Voice.SPEAKING, Voice.END, Voice.END, Voice.SILENT, Voice.END]
    assert values([say.tick(None, voice) for voice in voices]) == expected


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def settled(executor: ThreadPoolExecutor) -> None:
    executor.submit(lambda: None).result()


def test_recording_is_a_valid_file_before_it_is_closed(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    record = Record("kitchen", tmp_path, executor)
    for n in range(120):
        record.tick(frame(n) if n % 2 else None, Voice.SILENT)
    settled(executor)
    (path,) = tmp_path.iterdir()
    with wave.open(str(path)) as file:
        assert file.getnframes() == 50 * FRAME_SAMPLES  # the last 10 frames wait for their second to fill
    asyncio.run(record.close())
    with wave.open(str(path)) as file:
        assert file.getnframes() == 60 * FRAME_SAMPLES
        sound = np.frombuffer(file.readframes(10**9), np.int16).reshape(-1, FRAME_SAMPLES)
    assert sound[:, 0].tolist() == list(range(1, 120, 2))


def test_a_full_file_is_followed_by_another(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    record = Record("kitchen", tmp_path, executor, max_data_bytes=150_000)
    for n in range(150):
        record.tick(frame(n), Voice.SILENT)
    asyncio.run(record.close())
    seconds = []
    for path in tmp_path.iterdir():
        with wave.open(str(path)) as file:
            seconds.append(file.getnframes() / 48000)
    assert seconds == [1.0, 1.0, 1.0]


def test_nothing_heard_leaves_no_file(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    record = Record("kitchen", tmp_path, executor)
    record.tick(None, Voice.SILENT)
    asyncio.run(record.close())
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_ends_the_recording_not_the_hub(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    record = Record("kitchen", tmp_path / "missing", executor)
    for n in range(150):
        record.tick(frame(n), Voice.SILENT)
    settled(executor)
    assert record._failed
    asyncio.run(record.close())
