"""What a virtual microphone hears: sources that loop or play once, at any rate, in blocks of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.virtual_pi.acoustics import Source, clip, read_wav, silence, tone, wav, write_wav

RATE = 48_000


def drawn(source: Source, total: int, rate: int) -> NDArray[Any]:
    """`total` samples, in blocks as uneven as USB asks for them."""
    blocks: list[NDArray[Any]] = []
    sizes = (48, 1, 0, 479, 47)
    while total:
        size = min(total, sizes[len(blocks) % len(sizes)])
        block = np.asarray(source(size, rate))
        blocks.append(block[:, None] if block.ndim == 1 else block)
        total -= size
    return np.concatenate(blocks)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """1000 samples of two different channels, none of them silent."""
    ramp = np.linspace(0.1, 0.9, 1000, dtype=np.float32)
    write_wav(tmp_path / "stereo.wav", np.stack([ramp, -ramp], axis=1), RATE)
    return tmp_path / "stereo.wav"


def test_a_looped_file_begins_again_without_a_gap(recording: Path) -> None:
    sound, _ = read_wav(recording)
    np.testing.assert_array_equal(drawn(wav(recording), 2500, RATE), np.tile(sound, (3, 1))[:2500])


def test_a_file_played_once_is_followed_by_silence(recording: Path) -> None:
    sound, _ = read_wav(recording)
    heard = drawn(wav(recording, loop=False), 2500, RATE)
    np.testing.assert_array_equal(heard[:1000], sound)
    assert not heard[1000:].any()


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_clip_keeps_its_pitch_and_length_at_another_rate(rate: int) -> None:
    second = tone(440.0)(RATE, RATE)
    heard = drawn(clip(second, RATE, loop=False), 2 * rate, rate)
    np.testing.assert_allclose(heard[:rate], tone(440.0)(rate, rate), atol=1e-3)
    assert not heard[rate:].any()


def test_a_tone_has_no_seam_between_blocks() -> None:
    np.testing.assert_allclose(drawn(tone(440.0), 4800, RATE), tone(440.0)(4800, RATE), atol=1e-6)


def test_silence_is_silent() -> None:
    assert not drawn(silence, 480, RATE).any()


def test_a_file_that_is_not_16_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mono.wav"
    write_wav(path, np.zeros(10), RATE)
    path.write_bytes(path.read_bytes().replace(b"\x02\x00\x10\x00data", b"\x01\x00\x08\x00data"))
    with pytest.raises(ValueError, match="8-bit samples, not 16"):
        wav(path)
