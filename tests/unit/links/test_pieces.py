"""What a voice service gets of the microphone: whole pieces, in time, that sound the same."""

from __future__ import annotations

import numpy as np
import pytest

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples
from pinna.links.pieces import Pieces

RATES = [16_000, 24_000]
LATE_SECONDS = {16_000: 0.0125, 24_000: 0.005}
"""soxr's filter for rates that change, 100 samples at its inner rate of 8 or 20 kHz; measured."""


def frames(sound: Samples) -> list[Samples]:
    return list(sound.reshape(-1, FRAME_SAMPLES))


@pytest.mark.parametrize("rate", RATES)
def test_each_second_frame_completes_a_piece_from_the_first_on(rate: int) -> None:
    pieces = Pieces(rate)
    got = [pieces.put(frame) for frame in frames(np.zeros(300 * FRAME_SAMPLES, np.int16))]
    assert [piece is not None for piece in got] == [False, True] * 150
    assert {len(piece) for piece in got if piece is not None} == {rate // 25}


@pytest.mark.parametrize("rate", RATES)
def test_a_click_is_late_by_the_filter_alone_wherever_it_is(rate: int) -> None:
    for at in range(5000, 5000 + 2 * FRAME_SAMPLES, 191):
        sound = np.zeros(20 * FRAME_SAMPLES, np.int16)
        sound[at - 24 : at + 24] = 20_000
        pieces = Pieces(rate)
        out = np.concatenate([piece for piece in map(pieces.put, frames(sound)) if piece is not None])
        late = np.argmax(np.convolve(np.abs(out.astype(float)), np.ones(rate // 1000), "same")) / rate
        assert late - at / SAMPLE_RATE == pytest.approx(LATE_SECONDS[rate], abs=0.0008)


@pytest.mark.parametrize("rate", RATES)
def test_speech_passes_and_what_would_fold_does_not(rate: int) -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE

    def level(hertz: float) -> float:
        """Decibels by which a sine of it is weaker there."""
        pieces = Pieces(rate)
        sine = (9000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
        out = np.concatenate([piece for piece in map(pieces.put, frames(sine)) if piece is not None])
        rms = np.sqrt(np.mean(np.square(out[rate // 2 :].astype(float))))
        return float(20 * np.log10(max(rms, 1e-3) / (9000 / np.sqrt(2))))

    assert level(300) == pytest.approx(0, abs=0.1)
    assert level(0.47 * rate) == pytest.approx(0, abs=0.5)
    assert level(0.55 * rate) < -60
