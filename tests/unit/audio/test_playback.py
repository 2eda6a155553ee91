from __future__ import annotations

import numpy as np

from pinna.audio.playback import CAPACITY_FRAMES, PlaybackQueue
from pinna.flow.surplus import SLACK_FRAMES
from pinna.frame import FRAME_MS, FRAME_SAMPLES, SILENCE, Samples

LOUD: Samples = np.full(FRAME_SAMPLES, 9000, np.int16)


def stream(queue: PlaybackQueue, depth: int, frame: Samples, ticks: int) -> int:
    """Fill to `depth`, then one in and one out a tick; how deep it is at the end."""
    ring = queue.attach(48_000)
    for _ in range(depth):
        queue.play(frame)
    out = np.zeros(FRAME_SAMPLES, np.int16)
    for _ in range(ticks):
        queue.play(frame)
        ring.get_into(out)
    return len(ring)


def test_it_is_bounded_and_counts_what_it_drops() -> None:
    queue = PlaybackQueue()
    queue.attach(48_000)
    assert [queue.play(LOUD) for _ in range(CAPACITY_FRAMES + 3)] == [True] * CAPACITY_FRAMES + [False] * 3
    assert queue.stats.dropped == 3
    assert queue.queued_ms == CAPACITY_FRAMES * FRAME_MS


def test_depth_that_nobody_needs_is_given_up_quickly_in_silence() -> None:
    queue = PlaybackQueue()
    assert stream(queue, 8, SILENCE, ticks=130) <= SLACK_FRAMES + 1
    assert queue.stats.trimmed >= 5


def test_and_more_patiently_while_something_is_to_be_heard() -> None:
    queue = PlaybackQueue()
    assert stream(queue, 8, LOUD, ticks=130) > SLACK_FRAMES + 2
    queue = PlaybackQueue()
    assert stream(queue, 8, LOUD, ticks=400) <= SLACK_FRAMES + 1


def test_depth_within_the_slack_is_left_alone() -> None:
    queue = PlaybackQueue()
    assert stream(queue, SLACK_FRAMES, SILENCE, ticks=500) == SLACK_FRAMES
    assert queue.stats.trimmed == 0


def test_a_card_of_44100_hz_gets_blocks_of_its_own_rate() -> None:
    queue = PlaybackQueue()
    ring = queue.attach(44_100)
    assert queue.play(LOUD)
    assert queue.play(LOUD)
    first = np.zeros(882, np.int16)
    assert ring.get_into(first)
    second = np.zeros(882, np.int16)
    assert ring.get_into(second)
    assert abs(int(second[400]) - 9000) < 50
