"""The jitter buffer against networks that exist only as numbers: no clock, no codec, no sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinna.links.jitter import CAPACITY_SECONDS, Action, Decision, JitterBuffer, Packet

FRAME = 0.020


def packet(number: int, *, first: int = 0, at: int = 0, pause: int = 0) -> Packet:
    """The `number`th of a stream; its payload is its number. `pause`: RTP time the sender skipped."""
    return Packet(
        (first + number) & 0xFFFF, (at + number * 960 + pause) & 0xFFFF_FFFF, number.to_bytes(4, "big")
    )


def number_of(decision: Decision) -> int | None:
    """Which frame of the stream the decision sounds; None for silence and concealment."""
    if decision.action is Action.PLAY:
        return int.from_bytes(decision.payload, "big")
    if decision.action is Action.RECOVER:
        return int.from_bytes(decision.payload, "big") - 1
    return None


@dataclass
class Run:
    """A reader that ticks every 20 ms, `phase` after the packets would arrive at best."""

    buffer: JitterBuffer = field(default_factory=JitterBuffer)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    deepest: int = 0

    def through(self, arrivals: list[tuple[float, Packet]], until: float, phase: float = 0.007) -> Run:
        arrivals = sorted(arrivals, key=lambda each: each[0])
        index = 0
        for tick in range(int(until / FRAME)):
            now = tick * FRAME + phase
            while index < len(arrivals) and arrivals[index][0] <= now:
                self.buffer.put(arrivals[index][1], arrivals[index][0])
                index += 1
                self.deepest = max(self.deepest, self.buffer.stats.depth_ms)
            decision = self.buffer.get(now)
            if decision.hurry:  # what the reader does with it: a pitch period less is to be sounded
                self.decisions.append((now, decision))
                decision = self.buffer.get(now + FRAME / 2)
            self.decisions.append((now, decision))
        return self

    @property
    def numbers(self) -> list[int]:
        return [n for _, d in self.decisions if (n := number_of(d)) is not None]

    def delay(self, start: float) -> float:
        """Mean time from arrival at best to playing, from `start` on."""
        delays = [t - n * FRAME for t, d in self.decisions if (n := number_of(d)) is not None and t >= start]
        return sum(delays) / len(delays)


def stream(count: int, **kwargs: int) -> list[tuple[float, Packet]]:
    return [(n * FRAME, packet(n, **kwargs)) for n in range(count)]


def test_clean_stream_is_played_whole_within_two_packets():
    run = Run().through(stream(500), 10.5)
    assert run.numbers == list(range(500))
    assert run.delay(0) <= 2 * FRAME
    assert run.buffer.stats.concealed == 0
    assert run.buffer.stats.lost == 0


@pytest.mark.parametrize(("first", "at"), [(65_500, 0), (0, 2**32 - 960 * 40), (65_530, 2**32 - 5)])
def test_numbers_wrap(first, at):
    run = Run().through(stream(200, first=first, at=at), 4.5)
    assert run.numbers == list(range(200))
    assert run.buffer.stats.lost == 0


def test_single_losses_are_had_from_the_next_packet():
    arrivals = [each for n, each in enumerate(stream(500)) if n % 10 != 5]
    run = Run().through(arrivals, 10.5)
    assert run.numbers == list(range(500))
    assert run.buffer.stats.recovered == 50
    assert run.buffer.stats.concealed <= 1  # the first loss teaches it to wait for the next packet
    assert run.delay(1) <= 2.5 * FRAME


def test_gaps_are_concealed_in_time():
    """Five packets in a row lost: four concealed, one recovered, and what follows is not late for it."""
    arrivals = [each for n, each in enumerate(stream(500)) if n % 50 not in {20, 21, 22, 23, 24}]
    run = Run().through(arrivals, 10.5)
    assert run.numbers == [n for n in range(500) if n % 50 not in {20, 21, 22, 23}]
    assert run.buffer.stats.lost == 50
    assert run.buffer.stats.recovered == 10
    assert run.buffer.stats.concealed + run.buffer.stats.skipped == pytest.approx(40, abs=4)
    assert run.delay(5) <= 3 * FRAME


def test_reordered_packets_are_waited_for_once_that_is_known():
    arrivals = [(t + (0.030 if n % 7 == 3 else 0), p) for n, (t, p) in enumerate(stream(500))]
    run = Run().through(arrivals, 10.5)
    assert run.numbers == list(range(500))
    played = [number_of(d) for t, d in run.decisions if d.action is Action.PLAY and t > 2]
    assert played == list(range(played[0], 500))


def test_delay_returns_after_a_burst():
    """The network stands still for 200 ms once, then delivers all at once."""
    arrivals = [(max(t, 3.2) if 3.0 <= t < 3.2 else t, p) for t, p in stream(1000)]
    run = Run().through(arrivals, 20.5)
    assert run.numbers == list(range(1000))
    assert run.delay(10) <= run.delay(0) + FRAME
    at_ten = [t - n * FRAME for t, d in run.decisions if (n := number_of(d)) is not None and 9.5 < t < 10]
    assert max(at_ten) <= 3 * FRAME


def test_jitter_deepens_the_buffer_and_quiet_makes_it_shallow():
    arrivals = [(t + (0.060 if n % 5 == 2 and n < 300 else 0), p) for n, (t, p) in enumerate(stream(1000))]
    run = Run().through(arrivals, 20.5)
    assert run.numbers == list(range(1000))
    settled = [d.action for t, d in run.decisions if 1 < t < 6]
    assert Action.CONCEAL not in settled
    assert Action.RECOVER not in settled
    assert sum(t - n * FRAME for t, d in run.decisions if (n := number_of(d)) and 4 < t < 6) / 100 >= 0.060
    assert run.delay(15) <= 2.5 * FRAME


@pytest.mark.parametrize("runs_on", [True, False], ids=["DTX", "frozen RTP time"])
def test_a_pause_is_not_a_loss_and_speech_starts_promptly_after_it(runs_on):
    arrivals, number, at, pause = [], 0, 0.0, 0
    starts = []
    for spurt in range(10):
        starts.append((number, at))
        for _ in range(30 + spurt):
            arrivals.append((at, packet(number, pause=pause)))
            number += 1
            at += FRAME
        rest = 0.3 + 0.17 * spurt
        at += rest
        pause += int(rest * 48_000) if runs_on else 0
    run = Run().through(arrivals, at + 0.5)
    stats = run.buffer.stats
    assert run.numbers == list(range(number))
    assert (stats.lost, stats.late, stats.overflowed) == (0, 0, 0)
    played_at = {number_of(d): t for t, d in run.decisions if number_of(d) is not None}
    for first, sent in starts:
        assert played_at[first] - sent <= 3 * FRAME


def test_a_pause_sounds_silent():
    run = Run().through(stream(50), 3.0)
    assert all(d.action is Action.NOTHING for t, d in run.decisions if t > 1.2)
    assert run.buffer.stats.concealed == 0


def test_a_cut_network_does_not_make_late():
    arrivals = [(t, p) for t, p in stream(500) if not 3.0 <= t < 5.0]
    run = Run().through(arrivals, 10.5)
    assert run.numbers == [n for n in range(500) if not 150 <= n < 249]  # 249 from packet 250
    assert run.delay(5.5) <= 3 * FRAME


def test_another_stream_is_taken_up_at_once():
    run = Run().through(stream(100), 2.1)
    other = [(2.1 + n * FRAME, packet(n, first=30_000, at=5_000_000)) for n in range(100)]
    again = Run(run.buffer)
    again.through([(t, p) for t, p in other], 4.5)
    assert again.numbers[-100:] == list(range(100))
    assert run.buffer.stats.lost == 0


def test_nobody_reads():
    buffer = JitterBuffer()
    for at, each in stream(1000):
        buffer.put(each, at)
    assert buffer.stats.depth_ms <= CAPACITY_SECONDS * 1000
    assert buffer.stats.overflowed == 950


def test_late_and_double_packets_are_counted_apart():
    buffer = JitterBuffer()
    for n in (0, 1, 3, 3, 4, 5):
        buffer.put(packet(n), n * FRAME)
    for tick in range(6):
        buffer.get(0.1 + tick * FRAME)
    buffer.put(packet(2), 0.3)
    buffer.put(packet(1), 0.3)
    stats = buffer.stats
    assert (stats.received, stats.lost, stats.recovered, stats.late, stats.duplicates) == (8, 1, 1, 1, 2)


def test_clocks_that_differ_do_not_add_up():
    """A sender whose clock is 200 ppm fast, for five minutes: 60 ms more sound than time."""
    arrivals = [(n * FRAME * (1 - 200e-6), packet(n)) for n in range(15_000)]
    run = Run().through(arrivals, 300)
    assert run.deepest <= 80
    assert run.buffer.stats.overflowed == 0
    assert run.numbers == sorted(set(run.numbers))


@st.composite
def networks(draw):
    """Arrivals of 300 packets through some network, and where the reader's ticks lie."""
    count = 300
    first = draw(st.integers(0, 0xFFFF))
    at = draw(st.integers(0, 0xFFFF_FFFF))
    lost = draw(st.sets(st.integers(0, count - 1), max_size=120))
    doubled = draw(st.sets(st.integers(0, count - 1), max_size=50))
    delays = draw(st.dictionaries(st.integers(0, count - 1), st.floats(0, 0.3, allow_nan=False), max_size=80))
    phase = draw(st.floats(0, 0.0199))
    arrivals = []
    for n in range(count):
        if n in lost:
            continue
        when = n * FRAME + delays.get(n, 0.0)
        arrivals.append((when, packet(n, first=first, at=at)))
        if n in doubled:
            arrivals.append((when + delays.get(count - n, 0.001), packet(n, first=first, at=at)))
    return arrivals, lost, phase


@settings(max_examples=200, deadline=None)
@given(networks())
def test_whatever_the_network_does(network):
    arrivals, lost, phase = network
    run = Run().through(arrivals, 9.0, phase)
    numbers, stats = run.numbers, run.buffer.stats
    assert numbers == sorted(set(numbers)), "in order, and none twice"
    assert run.deepest <= CAPACITY_SECONDS * 1000
    assert stats.received == len(arrivals)
    assert stats.depth_ms == 0, "all that waited was played"
    assert set(numbers) & lost <= {n for n in lost if n + 1 not in lost}, "only what the next packet holds"
    played = sum(d.action is Action.PLAY for _, d in run.decisions)
    assert played + stats.late + stats.duplicates + stats.overflowed == stats.received


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.2), st.floats(0, 0.0199))
def test_no_frame_that_could_be_had_is_missing(seed, loss, phase):
    """Up to 20 % lost, gaps up to 100 ms, arrivals up to 15 ms unsteady."""
    random = Random(seed)
    lost, row = set(), 0
    for n in range(1, 500):
        row = row + 1 if random.random() < loss and row < 5 else 0
        if row:
            lost.add(n)
    arrivals = [(t + random.random() * 0.015, p) for n, (t, p) in enumerate(stream(500)) if n not in lost]
    run = Run().through(arrivals, 10.6, phase)
    wanted = [n for n in range(500) if n not in lost or (n + 1 not in lost and n < 499)]
    assert run.numbers == wanted
    assert run.buffer.stats.late == 0
    assert run.delay(2) <= 0.1
