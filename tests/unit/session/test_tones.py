"""The tones, as the loudspeaker gets them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.clock import ManualClock

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, SILENCE, Samples
from pinna.session.sessions import Change
from pinna.session.states import State
from pinna.session.tones import AMPLITUDE, STALE_SECONDS, Tones

OPENS = Change(State.IDLE, State.SESSION, "test")


class Speaker:
    queued_ms = 40

    def __init__(self) -> None:
        self.heard: list[Samples] = []

    def play(self, samples: Samples) -> bool:
        self.heard.append(samples)
        return True


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.speaker = Speaker()
        self.tones = Tones(self.speaker, self.clock)

    def hub_plays(self, samples: Samples = SILENCE) -> Samples:
        self.clock.advance(0.02)
        self.tones.play(samples)
        return self.speaker.heard[-1]


def pitches(frames: list[Samples]) -> list[float]:
    """Of each half, in Hz."""
    halves = np.split(np.concatenate(frames), 2)
    spectra = [np.abs(np.fft.rfft(half * np.hanning(len(half)), SAMPLE_RATE)) for half in halves]
    return [float(np.argmax(spectrum)) for spectrum in spectra]


CHANGES = {
    OPENS: (659.3, 880),
    Change(State.SESSION, State.LISTENING, "test"): (880, 659.3),
    Change(State.SESSION, State.MUTED, "test"): (329.6, 329.6),
    Change(State.MUTED, State.IDLE, "test"): (329.6, 440),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_has_its_tone_at_once_where_nothing_plays(change: Change) -> None:
    bench = Bench()
    bench.tones.follow(change)
    heard = bench.speaker.heard
    assert [(len(frame), frame.dtype) for frame in heard] == [(FRAME_SAMPLES, np.dtype(np.int16))] * 6
    assert pitches(heard) == pytest.approx(CHANGES[change], abs=5)
    sound = np.concatenate(heard).astype(float) / 32767
    assert np.max(np.abs(sound)) == pytest.approx(AMPLITUDE, rel=0.05)
    assert np.max(np.abs(np.diff(sound))) < 0.02  # no click


def test_each_sounds_different() -> None:
    assert len(set(CHANGES.values())) == len(CHANGES)


def test_the_start_is_no_change() -> None:
    bench = Bench()
    for state in State:
        bench.tones.follow(Change(state, state, "start"))
    assert bench.speaker.heard == []


def test_where_the_hub_plays_it_is_mixed_in_and_nothing_is_added() -> None:
    bench = Bench()
    voice = np.full(FRAME_SAMPLES, 1000, np.int16)
    bench.hub_plays(voice)
    bench.tones.follow(OPENS)
    mixed = [bench.hub_plays(voice) for _ in range(6)]
    assert pitches([frame - voice for frame in mixed]) == pytest.approx((659.3, 880), abs=5)
    assert np.array_equal(bench.hub_plays(voice), voice)
    assert len(bench.speaker.heard) == 8


def test_a_loud_hub_does_not_wrap_around() -> None:
    bench = Bench()
    loud = np.full(FRAME_SAMPLES, 32767, np.int16)
    bench.hub_plays(loud)
    bench.tones.follow(OPENS)
    assert min(int(bench.hub_plays(loud).min()) for _ in range(6)) > 0


def test_a_hub_that_falls_silent_does_not_keep_a_tone_for_later() -> None:
    bench = Bench()
    bench.hub_plays()
    bench.tones.follow(OPENS)
    bench.hub_plays()
    bench.clock.advance(STALE_SECONDS)
    assert all(not bench.hub_plays().any() for _ in range(8))


def test_a_later_change_replaces_what_is_left_of_the_tone() -> None:
    bench = Bench()
    bench.hub_plays()
    bench.tones.follow(OPENS)
    bench.hub_plays()
    bench.tones.follow(Change(State.SESSION, State.MUTED, "test"))
    frames = [bench.hub_plays() for _ in range(6)]
    assert pitches(frames) == pytest.approx((329.6, 329.6), abs=5)
    assert not bench.hub_plays().any()


def test_it_tells_how_much_is_queued() -> None:
    assert Bench().tones.queued_ms == 40
