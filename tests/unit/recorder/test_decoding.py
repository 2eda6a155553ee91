"""What libsndfile does not know is decoded all the same: at any place, and with its damage in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.radio import encode

from pinna.recorder.decoding import open_sound
from pinna.recorder.formats import mpeg

ALL = 10**9


def read(path: Path, first: int = 0, count: int = ALL) -> NDArray[np.int16]:
    with open_sound(path) as file:
        file.seek(first)
        samples: NDArray[np.int16] = file.read(count, dtype="int16", always_2d=True)
        return samples


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_from_any_place_it_is_the_same_sound(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "tone"
    encode(path, codec, 5)
    whole = read(path)
    with open_sound(path) as file:
        assert (file.samplerate, file.channels, file.frames) == (44_100, 2, len(whole))
    for first in (1, 1000, 100_000, len(whole) - 10):
        part = read(path, first, 3000).astype(int)
        assert np.abs(part - whole[first : first + 3000]).max() <= 16  # AAC fills in noise, anew each time
    assert not len(read(path, len(whole)))


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_also_of_what_only_reads_like_a_file(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "tone"
    encode(path, codec, 3)
    with path.open("rb", buffering=0) as raw, open_sound(raw) as file:
        file.seek(44_100)
        assert np.abs(file.read(100).astype(int) - read(path, 44_100, 100)).max() <= 1


def test_what_follows_damage_stays_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "tone"
    data = bytearray(encode(path, "aac", 5))
    before = read(path)
    frames = list(mpeg.Framer().feed(bytes(data)))
    place = sum(len(frame.data) for frame in frames[:50])
    data[place + 7 : place + len(frames[50].data)] = bytes(len(frames[50].data) - 7)
    path.write_bytes(data)
    after = read(path)
    assert len(after) == len(before)
    settled = 60 * 1024
    assert np.abs(after[settled:].astype(int) - before[settled:]).max() <= 16


@pytest.mark.parametrize("content", [b"", b"no sound at all\n" * 1000])
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".+"):
        open_sound(path)
