from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import pytest

from pinna.errors import ConfigError
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE
from pinna.hub.wav import WavWriter, read_frames


def write_tone(path: Path, rate: int, channels: int, width: int) -> None:
    """Half a second of 440 Hz at half of full scale."""
    x = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
    if width == 1:
        data = np.round(127.5 + 127.5 * x).astype(np.uint8)[:, None].repeat(channels, 1).tobytes()
    else:
        whole = np.round(x * (2 ** (8 * width - 1) - 1)).astype("<i4")[:, None].repeat(channels, 1)
        data = whole.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(data)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_reads_any_wav_as_mono_frames(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    write_tone(tmp_path / "tone.wav", rate, channels, width)
    frames = read_frames(tmp_path / "tone.wav")
    assert frames.dtype == np.int16
    assert frames.shape[1] == FRAME_SAMPLES
    assert abs(frames.size / SAMPLE_RATE - 0.5) <= 0.021
    middle = frames.ravel()[SAMPLE_RATE // 10 : SAMPLE_RATE * 4 // 10].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle))
    assert abs(np.argmax(spectrum) * SAMPLE_RATE / middle.size - 440) < 4
    level = 20 * math.log10(np.sqrt(np.mean(middle**2)) / 32768)
    assert level == pytest.approx(-9.03, abs=0.5)


def test_says_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound at all")
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
    for name in ("text.wav", "missing.wav", "empty.wav", "."):
        with pytest.raises(ConfigError, match=str(tmp_path)):
            read_frames(tmp_path / name)


def test_header_is_true_after_every_append(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav")
    for seconds in range(3):
        with wave.open(str(tmp_path / "a.wav")) as file:  # a reader, while the writer is at it
            assert file.getparams()[:4] == (1, 2, SAMPLE_RATE, seconds * SAMPLE_RATE)
            assert file.readframes(10**6) == b"".join(bytes([n]) * 96_000 for n in range(seconds))
        writer.append(bytes([seconds]) * 96_000)
    writer.close()


def test_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        WavWriter(tmp_path / "a.wav")
