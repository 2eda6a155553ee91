"""What a voice service says, until it is heard."""

from __future__ import annotations

import numpy as np
import pytest

from pinna.frame import FRAME_SAMPLES, Samples
from pinna.links.playout import AHEAD_MS, MAX_SECONDS, MOST_AHEAD_MS, PAUSE_FRAMES, Playout


def ramp(start: int, length: int) -> Samples:
    return np.arange(start, start + length).astype(np.int16)


def test_pieces_of_any_length_come_out_whole_and_in_order() -> None:
    playout = Playout()
    rng = np.random.default_rng(3)
    at = 0
    for length in rng.integers(1, 3000, 20):
        playout.put(ramp(at, int(length)))
        at += int(length)
    out = []
    while (frame := playout.frame()) is not None:
        assert frame.shape == (FRAME_SAMPLES,)
        out.append(frame)
    whole = np.concatenate(out)
    assert np.array_equal(whole[:at], ramp(0, at))
    assert not whole[at:].any()  # the last one is filled up
    assert playout.frames == at // FRAME_SAMPLES
    assert playout.dropped == 0


def test_a_speech_begins_with_some_in_hand_but_a_short_one_is_heard_too() -> None:
    playout = Playout()
    assert playout.frame() is None
    playout.put(ramp(1, FRAME_SAMPLES))
    waited = 0
    while (frame := playout.frame()) is None:
        waited += 1
    assert waited == AHEAD_MS // 20
    assert frame[0] == 1
    assert playout.frame() is None
    playout.put(ramp(1, 5 * FRAME_SAMPLES))
    assert playout.frame() is not None


def test_it_is_bounded_and_counts_what_it_had_no_room_for() -> None:
    playout = Playout()
    second = np.zeros(48_000, np.int16)
    for _ in range(MAX_SECONDS + 5):
        playout.put(second)
    assert playout.dropped == 5 * 50
    playout.clear()
    assert playout.frame() is None


PIECE = 2 * FRAME_SAMPLES
QUIET, LOUD = np.zeros(PIECE, np.int16), np.full(PIECE, 9000, np.int16)


def talk(playout: Playout, piece: Samples, seconds: float) -> int:
    """A piece every 40 ms, two frames heard meanwhile; how many samples wait in the end."""
    for _ in range(int(seconds * 25)):
        playout.put(piece)
        playout.frame()
        playout.frame()
    waiting = 0
    while playout.frame() is not None:
        waiting += FRAME_SAMPLES
    return waiting


@pytest.mark.parametrize(("piece", "seconds"), [(QUIET, 4), (LOUD, 20)])
def test_who_speaks_in_his_own_time_and_was_held_up_is_not_late_for_ever(
    piece: Samples, seconds: float
) -> None:
    playout = Playout()
    for _ in range(13):  # half a second, at once
        playout.put(piece)
    assert talk(playout, piece, seconds) <= 4 * FRAME_SAMPLES
    assert playout.trimmed >= 22


def test_speech_that_was_sent_in_advance_is_heard_whole() -> None:
    playout = Playout()
    playout.put(np.tile(QUIET, 250))  # ten seconds at once, with pauses
    heard = 0
    while playout.frame() is not None:
        heard += 1
    assert heard == 500
    assert playout.trimmed == 0


def test_speech_that_keeps_pace_loses_nothing() -> None:
    playout = Playout()
    talk(playout, QUIET, 20)
    assert playout.trimmed == 0


def begins_after(playout: Playout) -> int:
    """How many frames of silence come before those of a speech whose pieces come one by one."""
    for silent in range(50):
        if silent % 2 == 0:
            playout.put(LOUD)
        if playout.frame() is not None:
            return silent
    raise AssertionError("it is never heard")


def silence(playout: Playout, frames: int) -> None:
    while playout.frame() is not None:
        pass
    for _ in range(frames - 1):
        assert playout.frame() is None


def test_a_network_that_is_late_has_more_kept_in_hand_up_to_a_bound() -> None:
    playout = Playout()
    assert begins_after(playout) == 0  # a whole piece is what is needed
    for _ in range(20):
        silence(playout, PAUSE_FRAMES)
        began = begins_after(playout)
    assert (began + 1) * 20 >= MOST_AHEAD_MS - 40 > AHEAD_MS
    assert (began + 1) * 20 <= MOST_AHEAD_MS


def test_who_pauses_between_two_speeches_was_not_late() -> None:
    playout = Playout()
    for _ in range(20):
        assert begins_after(playout) == 0
        silence(playout, PAUSE_FRAMES + 1)


def test_what_comes_before_the_loudspeaker_has_played_all_was_not_late() -> None:
    playout = Playout()
    for _ in range(20):
        assert begins_after(playout) == 0
        while playout.frame(queued=True) is not None:
            pass
        for _ in range(3):
            assert playout.frame(queued=True) is None
