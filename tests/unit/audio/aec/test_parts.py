"""The parts of the default engine, each against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from pinna.audio import speexdsp
from pinna.audio.aec.clock import Drift, PathWatch
from pinna.audio.aec.delay import DelayFinder
from pinna.audio.aec.farline import HALF_TAPS, Delay, FarLine
from pinna.audio.aec.notch import NotchUndo
from pinna.errors import EchoCancellerError
from pinna.frame import Samples


def pcm(x: object) -> Samples:
    return np.rint(np.asarray(x)).astype(np.int16)


@pytest.mark.parametrize("hertz", [300, 1000, 4000, 6500])
def test_the_far_line_reads_between_samples_at_a_moving_delay(hertz: float) -> None:
    line = FarLine(8000)
    tone = 10_000 * np.sin(2 * np.pi * hertz / 16_000 * np.arange(6400))
    for start in range(0, 6400, 320):
        line.push(pcm(tone[start : start + 320]))
    out = line.read(6080, 320, Delay(100.3, 1e-4, 6080))
    at = np.arange(6080, 6400)
    want = 10_000 * np.sin(2 * np.pi * hertz / 16_000 * (at - 100.3 - 1e-4 * (at - 6080)))
    assert np.sqrt(np.mean((out - want) ** 2)) < 10


def test_the_far_line_is_silent_before_its_beginning_and_never_looks_ahead() -> None:
    line = FarLine(1000)
    line.push(np.full(320, 1000, np.int16))
    assert not line.read(-2000, 320, Delay(100.0)).any()
    np.testing.assert_array_equal(line.read(0, 320, Delay(0.0)), line.read(0, 320, Delay(float(HALF_TAPS))))


@pytest.mark.parametrize("lag", [0, 37, 1280, 3000, 7500])
def test_the_delay_is_found_in_noise(lag: int) -> None:
    rng = np.random.default_rng(3)
    far = rng.normal(0, 2000, 32_000)
    near = np.concatenate([np.zeros(lag), far])[:32_000] + rng.normal(0, 2000, 32_000)
    finder = DelayFinder(320, 16_000, 480)
    for start in range(0, 32_000, 320):
        finder.push(pcm(near[start : start + 320]), pcm(far[start : start + 320]), active=True)
    found = finder.find(expected=float(lag))
    assert found.samples == pytest.approx(lag, abs=1.0)
    assert found.sharpness > 18
    assert found.rival == pytest.approx(1.0, abs=0.05)


def test_two_strangers_have_no_sharp_peak() -> None:
    rng = np.random.default_rng(4)
    finder = DelayFinder(320, 16_000, 480)
    for _ in range(100):
        finder.push(pcm(rng.normal(0, 2000, 320)), pcm(rng.normal(0, 2000, 320)), active=True)
    assert finder.find().sharpness < 12


@pytest.mark.parametrize("shift", [-3.4, -0.02, 0.0, 0.05, 1.5])
def test_a_moved_impulse_response_is_measured_in_parts_of_a_sample(shift: float) -> None:
    at = np.arange(400)

    def response(where: float) -> np.ndarray:
        return np.rint(1e5 * np.sinc(0.5 * (at - where)) * np.exp(-(((at - where) / 20) ** 2))).astype(
            np.int32
        )

    watch = PathWatch(16_000)
    assert watch.where(response(90.0)) == 0.0
    assert watch.where(response(90.0 + shift)) == pytest.approx(shift, abs=0.01)


def test_an_empty_impulse_response_says_nothing() -> None:
    assert PathWatch(16_000).where(np.zeros(400, np.int32)) is None


def test_drift_is_learnt_and_survives_a_jump() -> None:
    drift, rng, growth = Drift(16_000), np.random.default_rng(5), 0.8  # samples/s: 50 ppm
    for n in range(40):
        drift.update(100 + growth * 0.5 * n + rng.normal(0, 0.01), 0.5, growth)
    assert drift.growth == pytest.approx(growth, abs=0.02)
    drift.jumped()
    drift.update(500.0, 0.5, growth)
    drift.update(500.0 + growth * 0.5, 0.5, growth)
    assert drift.growth == pytest.approx(growth, abs=0.05)


def test_the_notch_is_undone_where_voices_are() -> None:
    radius = 0.982
    seconds = np.arange(32_000) / 16_000
    for hertz in (100.0, 400.0):
        z = np.exp(-2j * np.pi * hertz / 16_000)
        notch = radius * (1 - z) ** 2 / (1 - 2 * radius * z + (radius**2 + 0.7 * (1 - radius) ** 2) * z**2)
        undo = NotchUndo(320, 16_000)
        tone = pcm(3000 * np.cos(2 * np.pi * hertz * seconds))
        out = np.concatenate([undo.run(tone[n : n + 320]) for n in range(0, 32_000, 320)])[16_000:]
        turn = np.exp(-2j * np.pi * hertz * seconds[16_000:])
        gain = notch * np.mean(out * turn) / np.mean(tone[16_000:] * turn)
        assert abs(gain - 1) < 0.25
        assert abs(gain) == pytest.approx(1.0, abs=0.03)


def test_blocks_of_the_wrong_shape_never_reach_the_library() -> None:
    echo = speexdsp.EchoState(320, 1600, 16_000)
    good = np.zeros(320, np.int16)
    for bad in (np.zeros(319, np.int16), np.zeros(320, np.int32), np.zeros(640, np.int16)[::2]):
        with pytest.raises(ValueError, match="int16"):
            echo.cancel(bad, good)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="int16"):
            echo.cancel(good, bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no whole number"):
        speexdsp.Resampler(48_000, 16_000).process(np.zeros(961, np.int16))
    with pytest.raises(ValueError, match="frame is 320"):
        speexdsp.Preprocessor(160, 16_000, echo=echo)
    echo.close()
    echo.close()
    with pytest.raises(ValueError, match="closed"):
        echo.cancel(good, good)


def test_a_preprocessor_does_not_read_a_closed_canceller() -> None:
    echo = speexdsp.EchoState(320, 1600, 16_000)
    residual = speexdsp.Preprocessor(320, 16_000, echo=echo)
    echo.close()
    with pytest.raises(ValueError, match="closed"):
        residual.run(np.zeros(320, np.int16))
    residual.close()


def test_a_missing_library_names_its_package() -> None:
    with pytest.raises(EchoCancellerError) as caught:
        speexdsp.library("libspeexdsp-that-is-not-there.so.1")
    assert "sudo apt install libspeexdsp1" in caught.value.hint
    assert caught.value.permanent
