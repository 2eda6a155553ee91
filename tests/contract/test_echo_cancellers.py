"""What every echo canceller must do, on all engines; and what the default one does to echo."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.scenes import RATE, Scene, Take, erle, reaches, render, score

from pinna.audio.aec import EchoCanceller, create
from pinna.audio.aec.aligned import AlignedSpeex
from pinna.config import EchoConfig
from pinna.errors import EchoCancellerError
from pinna.frame import FRAME_SAMPLES, SILENCE, Samples

ENGINES = ("none", "speexdsp", "webrtc")
Make = Callable[[], EchoCanceller]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[EchoCanceller]:
    canceller = create(EchoConfig(engine=request.param))
    yield canceller
    canceller.close()


def noise(level: float, seed: int, frames: int = 1) -> Samples:
    samples = np.random.default_rng(seed).normal(0, level, frames * FRAME_SAMPLES)
    return np.clip(samples, -32768, 32767).astype(np.int16)


def through(canceller: EchoCanceller, take: Take) -> Samples:
    return np.concatenate([canceller.process(near, far) for near, far in take.frames()])


def test_a_frame_comes_out_as_it_went_in_and_is_a_new_array(engine: EchoCanceller) -> None:
    near, far = noise(1000, 1), noise(1000, 2)
    kept = near.copy(), far.copy()
    out = engine.process(near, far)
    assert out.shape == (FRAME_SAMPLES,)
    assert out.dtype == np.int16
    assert not np.shares_memory(out, near)
    assert not np.shares_memory(out, far)
    np.testing.assert_array_equal(near, kept[0])
    np.testing.assert_array_equal(far, kept[1])


def test_a_result_stays_what_it_is_when_the_next_frame_comes(engine: EchoCanceller) -> None:
    first = [engine.process(noise(3000, n), SILENCE) for n in range(4)][-1]
    before = first.copy()
    engine.process(noise(3000, 9), noise(3000, 10))
    np.testing.assert_array_equal(first, before)


def test_silence_stays_silence(engine: EchoCanceller) -> None:
    for _ in range(50):
        assert np.abs(engine.process(SILENCE, SILENCE)).max() <= 1


def test_the_talker_passes_while_nothing_is_played(engine: EchoCanceller) -> None:
    take = render(Scene(seconds=6, far_from=5 / 6, near_first=True, double_talk=False, noise_db=None))
    out = through(engine, take)
    loud = slice(2 * RATE, 4 * RATE)
    assert erle(take.near[loud] / 32768, out[loud] / 32768) < 3


def test_closing_twice_is_closing_once(engine: EchoCanceller) -> None:
    engine.process(SILENCE, SILENCE)
    engine.close()
    engine.close()


def test_a_discontinuity_may_come_at_any_time(engine: EchoCanceller) -> None:
    for n in range(30):
        if n % 3 == 0:
            engine.discontinuity()
        assert engine.process(noise(2000, n), noise(2000, n)).shape == (FRAME_SAMPLES,)


def test_the_state_names_the_engine() -> None:
    for name in ENGINES:
        canceller = create(EchoConfig(engine=name))
        assert canceller.state.engine == name
        canceller.close()


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(EchoCancellerError, match="no echo canceller `other`"):
        create(EchoConfig(engine="other"))  # type: ignore[arg-type]


FRAMES = st.sampled_from(["silence", "full", "lowest", "square", "noise", "loud", "impulse", "offset"])


def frame(kind: str, seed: int) -> Samples:
    impulse = SILENCE.copy()
    impulse[seed % FRAME_SAMPLES] = 32767
    square = np.where(np.arange(FRAME_SAMPLES) // 24 % 2, 32767, -32768)
    kinds = {
        "silence": SILENCE,
        "full": np.full(FRAME_SAMPLES, 32767),
        "lowest": np.full(FRAME_SAMPLES, -32768),
        "square": square,
        "noise": noise(30, seed),
        "loud": noise(40_000, seed),
        "impulse": impulse,
        "offset": noise(100, seed) // 2 + 3000,
    }
    return kinds[kind].astype(np.int16)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(st.tuples(FRAMES, FRAMES, st.integers(1, 12), st.booleans()), min_size=1, max_size=8),
)
@pytest.mark.parametrize("name", ENGINES)
def test_nothing_upsets_it(name: str, turns: list[tuple[str, str, int, bool]]) -> None:
    canceller = create(EchoConfig(engine=name))  # type: ignore[arg-type]
    for seed, (near, far, count, lost) in enumerate(turns):
        if lost:
            canceller.discontinuity()
        for n in range(count):
            out = canceller.process(frame(near, seed + n), frame(far, seed + n + 100))
            assert out.shape == (FRAME_SAMPLES,)
            assert out.dtype == np.int16
    state = canceller.state
    for value in (state.delay_ms, state.drift_ppm, state.erle_db):
        assert value is None or np.isfinite(value)
    canceller.close()


# The default engine. Scenes, engine: all deterministic. The thresholds are well under what was measured.


def settled(take: Take, out: Samples, latency: int, first: float, last: float) -> float:
    late = np.concatenate([out[latency:], np.zeros(latency, np.int16)]) / 32768
    part = slice(int(first * take.near.size), int(last * take.near.size))
    return erle(take.near[part] / 32768, late[part])


@pytest.mark.parametrize(
    ("delay_ms", "drift_ppm"),
    [(40.0, 0.0), (120.0, 0.0), (300.0, 0.0), (60.0, 50.0), (60.0, -100.0), (0.0, 0.0)],
)
def test_the_echo_goes_whatever_the_delay_and_the_clocks(delay_ms: float, drift_ppm: float) -> None:
    take = render(
        Scene(seconds=15, delay_ms=delay_ms, drift_ppm=drift_ppm, noise_db=None, double_talk=False, seed=11)
    )
    canceller = AlignedSpeex()
    frames = list(take.frames())
    out = [canceller.process(near, far) for near, far in frames[: len(frames) * 4 // 5]]
    state = canceller.state
    out += [canceller.process(near, far) for near, far in frames[len(frames) * 4 // 5 :]]
    canceller.close()
    assert state.converged
    assert state.delay_ms == pytest.approx(delay_ms - drift_ppm * 1e-6 * 12_000, abs=1.0)
    if drift_ppm or delay_ms:
        assert state.drift_ppm == pytest.approx(drift_ppm, abs=8.0)
    assert settled(take, np.concatenate(out), canceller.latency, 0.5, 0.8) > 25


def test_the_talker_is_heard_in_double_talk() -> None:
    take = render(Scene(seconds=24, noise_db=-58, seed=12))
    canceller = AlignedSpeex()
    result = score(take, through(canceller, take))
    canceller.close()
    assert result.stoi > 0.85
    assert result.near_sdr > 20
    assert result.ten_db_s < 1.5


@pytest.mark.parametrize("slip_ms", [-20.0, 5.0, 20.0])
def test_a_slip_is_forgotten_within_two_seconds(slip_ms: float) -> None:
    take = render(
        Scene(seconds=12, slips=((0.5, slip_ms),), seed=8, double_talk=False, delay_ms=60, noise_db=None)
    )
    canceller = AlignedSpeex()
    out = through(canceller, take)
    canceller.close()
    late = np.concatenate([out[canceller.latency :], np.zeros(canceller.latency, np.int16)]) / 32768
    assert reaches(take, late, take.near.size // 2) < 2.0


def test_the_talker_alone_is_the_microphone_itself_only_later() -> None:
    take = render(Scene(seconds=6, far_from=5 / 6, near_first=True, double_talk=False))
    canceller = AlignedSpeex()
    out = through(canceller, take)
    canceller.close()
    lag, end = canceller.latency, 4 * RATE
    np.testing.assert_array_equal(out[lag:end], take.near[: end - lag])
