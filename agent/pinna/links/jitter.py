"""What the network did to the stream, undone: reordered, deduplicated, and played out just late enough.

Pure: no I/O, no clock, no codec. Times are seconds of any one clock, handed in.

The method is NetEq's in miniature. Each packet's *transit* is its arrival less its RTP time; over a sliding
window the smallest transit is the network at its fastest, and how far the others lag behind it is the
jitter. The *target* delay is a high percentile of that lag, one packet more while packets are being lost
(forward error correction for a packet travels in the next one). The delay *grows* only when it has to:
a packet that is not there when its turn comes is covered by concealment while it may still come. It
*shrinks*, when it has stayed above the target for half a second, by leaving out frames that are lost anyway
and by asking the reader to play a little faster.

Two kinds of sender pause must not look like loss. With DTX the RTP time runs on: the next packet's sequence
number is the expected one and its time has jumped as far as the clock. Others (the hub) freeze the RTP time:
the transit jumps instead, and past `EPOCH_SECONDS` it is measured anew. Neither makes the talkspurt late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE

WINDOW_SECONDS: Final = 4.0
"""How long one bad moment is remembered."""

LAG_PERCENTILE: Final = 0.98
SORT_EVERY: Final = 10
"""Packets. Sorting the window for each would be the dearest thing in this file."""

TICK_JITTER: Final = 0.008
"""Seconds. The reader's ticks jitter too: a sound card's blocks come some milliseconds early or late."""

MAX_TARGET: Final = 0.400
"""Seconds. Beyond this, talking to each other becomes impossible; rather lose the packet."""

CAPACITY_SECONDS: Final = 1.0
"""Never more than this waits: the oldest goes."""

EPOCH_SECONDS: Final = 0.250
"""A transit this far from the smallest known is no jitter, but a sender that paused or started afresh."""

LOSS_MEMORY_SECONDS: Final = 10.0

CONCEAL_SECONDS: Final = 0.100
"""Concealment past this is a drone; then silence."""

SHRINK_AFTER_GETS: Final = 25
HYSTERESIS: Final = 0.005
HURRY_GENTLY_BELOW: Final = 0.100
"""Seconds too deep: below, every fifth frame is shortened (a tenth faster, hardly heard); above, each."""

RESYNC_PACKETS: Final = 500
"""A sequence number this far off is another stream (10 s at 20 ms)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet, `sequence` (16 bits) and `timestamp` (32 bits, 48 kHz) as in its header."""

    sequence: int
    timestamp: int
    payload: bytes
    duration: int = FRAME_SAMPLES  # samples; 0 for one that only carries padding
    has_fec: bool = True  # the packet before can be recovered from this one


class Action(Enum):
    PLAY = "play"  # decode `payload`
    RECOVER = "recover"  # `payload` is the next packet: decode its second copy of this frame
    CONCEAL = "conceal"  # extrapolate one frame
    NOTHING = "nothing"  # nothing is being said


@dataclass(frozen=True, slots=True)
class Decision:
    """What to sound next. `hurry`: the buffer is too deep, play this a little faster."""

    action: Action
    payload: bytes = b""
    duration: int = FRAME_SAMPLES
    timestamp: int | None = None  # RTP time of the frame, 32 bits; None when concealed
    hurry: bool = False


_NOTHING: Final = Decision(Action.NOTHING)
_CONCEAL: Final = Decision(Action.CONCEAL)


@dataclass(slots=True)
class JitterStats:
    """Counted in packets since the start; `target_ms` and `depth_ms` as of now."""

    received: int = 0
    lost: int = 0  # turn passed, not there
    late: int = 0  # came after its turn had passed (counted in `lost` as well)
    duplicates: int = 0
    recovered: int = 0  # of the lost, had from the next packet
    concealed: int = 0  # frames extrapolated inside speech: for lost ones and while waiting
    overflowed: int = 0  # thrown away unheard because too much was waiting
    skipped: int = 0  # lost frames left out to catch up
    depth_ms: float = 0.0
    target_ms: float = TICK_JITTER * 1000
    jitter_ms: float = 0.0  # RFC 3550 6.4.1, smoothed


def _unwrap(value: int, near: int, bits: int) -> int:
    """The number congruent to `value` modulo 2**bits that is nearest to `near`."""
    half = 1 << (bits - 1)
    return near + ((value - near + half) & ((1 << bits) - 1)) - half


class JitterBuffer:
    """One RTP stream: `put` each packet as it arrives, `get` what to sound each time a frame is due."""

    def __init__(self) -> None:
        self.stats = JitterStats()
        self._packets: dict[int, Packet] = {}
        self._waiting = 0  # samples in _packets
        self._next: int | None = None  # sequence number due next, unwrapped
        self._highest = 0
        self._played = False  # anything of this stream
        self._passed: deque[int] = deque(maxlen=RESYNC_PACKETS)  # numbers given up
        self._expected = 0  # RTP time due next, had the sender not paused
        self._latest = 0  # RTP time of the newest packet
        self._transits: deque[tuple[float, float]] = deque()  # (arrival, transit), seconds
        self._fastest = 0.0  # smallest transit in the window
        self._unsorted = 0  # packets that fell within what was known
        self._lag = 0.0  # LAG_PERCENTILE of the others behind it
        self._lost_at = float("-inf")
        self._sounding = False  # False before the first packet and in a pause
        self._borrowed = 0  # samples concealed, without passing a number, since the last real frame
        self._excess: deque[float] = deque(maxlen=SHRINK_AFTER_GETS)

    def put(self, packet: Packet, arrival: float) -> None:
        """A packet has arrived."""
        self.stats.received += 1
        sequence = _unwrap(packet.sequence, self._highest, 16)
        timestamp = _unwrap(packet.timestamp, self._latest, 32)
        if self._next is None or abs(sequence - self._highest) > RESYNC_PACKETS:
            self.restart()
            self._next = self._highest = sequence
            self._expected = self._latest = timestamp
        if sequence in self._packets:
            self.stats.duplicates += 1
            return
        if sequence < self._next:
            if self._played:
                self._count_straggler(sequence, timestamp, arrival)
                return
            self._next, self._expected = sequence, timestamp  # overtaken at the very start
        self._measure(timestamp, arrival, newest=sequence >= self._highest)
        self._packets[sequence] = replace(packet, sequence=sequence, timestamp=timestamp)
        self._waiting += packet.duration
        if sequence >= self._highest:
            self._highest, self._latest = sequence, timestamp
        while self._waiting > CAPACITY_SECONDS * SAMPLE_RATE or len(self._packets) > RESYNC_PACKETS:
            oldest = min(self._packets)
            self._take(oldest)
            self.stats.overflowed += 1
        self.stats.depth_ms = self._waiting * 1000 / SAMPLE_RATE

    def get(self, now: float) -> Decision:
        """What to sound at the instant `now`; it takes `duration` samples to sound."""
        if not self._packets or self._next is None:
            return self._wait()
        first = min(self._packets)
        packet = self._packets[first]
        gap = first - self._next
        duration = packet.duration or FRAME_SAMPLES
        seconds = duration / SAMPLE_RATE
        due_timestamp = packet.timestamp - gap * duration
        delay = now - due_timestamp / SAMPLE_RATE - self._fastest
        target = self._target(now, seconds)

        paused = not self._sounding or due_timestamp > self._expected
        if (paused or gap) and delay < target:
            return self._wait()  # to start a talkspurt at the target delay; or what is missing may yet come

        while gap and not (gap == 1 and packet.has_fec):
            covered = self._borrowed >= duration and delay - seconds >= target
            if not (covered or delay - seconds > target + HYSTERESIS):
                break
            if self._borrowed >= duration:
                self._borrowed -= duration
                self.stats.concealed += 1
            else:
                self.stats.skipped += 1
            self._pass(now)
            gap -= 1
            delay -= seconds

        self._settle_borrowed()
        if not gap:
            self._take(first)
            return Decision(
                Action.PLAY,
                packet.payload,
                packet.duration,
                packet.timestamp & 0xFFFF_FFFF,
                hurry=self._too_deep(delay - seconds - target),
            )
        self._pass(now)
        self._expected = due_timestamp + duration
        if gap == 1 and packet.has_fec:
            self.stats.recovered += 1
            return Decision(Action.RECOVER, packet.payload, duration, due_timestamp & 0xFFFF_FFFF)
        self.stats.concealed += 1
        return Decision(Action.CONCEAL, duration=duration)

    def restart(self) -> None:
        """Another stream follows. The statistics go on, and the target until there is a better one."""
        self._packets.clear()
        self._waiting = 0
        self._passed.clear()
        self._transits.clear()
        self._next = None
        self._played = self._sounding = False

    def _count_straggler(self, sequence: int, timestamp: int, arrival: float) -> None:
        if sequence in self._passed:
            self._passed.remove(sequence)
            self.stats.late += 1
            self._measure(timestamp, arrival, newest=False)
        else:
            self.stats.duplicates += 1

    def _measure(self, timestamp: int, arrival: float, *, newest: bool) -> None:
        """Learn from one more packet how long the network takes and how unsteady it is."""
        transit = arrival - timestamp / SAMPLE_RATE
        if self._transits and abs(transit - self._fastest) > EPOCH_SECONDS:
            if not newest:
                return
            self._transits.clear()  # the last target stands until there is enough to measure it anew
            self._fastest = transit
            self._excess.clear()
        elif self._transits and newest:
            change = abs(transit - self._transits[-1][1]) * 1000
            self.stats.jitter_ms += (change - self.stats.jitter_ms) / 16
        self._transits.append((arrival, transit))
        while self._transits[0][0] < arrival - WINDOW_SECONDS:
            self._transits.popleft()
        self._unsorted += 1
        if self._unsorted < SORT_EVERY and self._fastest <= transit <= self._fastest + self._lag:
            return
        self._unsorted = 0
        transits = sorted(transit for _, transit in self._transits)
        self._fastest = transits[0]
        if len(transits) >= SHRINK_AFTER_GETS:
            self._lag = transits[int(LAG_PERCENTILE * (len(transits) - 1))] - self._fastest

    def _target(self, now: float, packet_seconds: float) -> float:
        losing = now - self._lost_at < LOSS_MEMORY_SECONDS
        target = min(MAX_TARGET, self._lag + TICK_JITTER + (packet_seconds if losing else 0.0))
        self.stats.target_ms = target * 1000
        return target

    def _wait(self) -> Decision:
        """The frame due is not there and may still come, or nothing is being said: which, time will tell."""
        if not self._sounding:
            return _NOTHING
        self._borrowed += FRAME_SAMPLES
        if self._borrowed > CONCEAL_SECONDS * SAMPLE_RATE:
            self._sounding = False
            return _NOTHING
        return _CONCEAL

    def _settle_borrowed(self) -> None:
        """Speech goes on: what was concealed while waiting was inside it."""
        if self._sounding:
            self.stats.concealed += self._borrowed // FRAME_SAMPLES
        self._borrowed = 0
        self._sounding = True

    def _pass(self, now: float) -> None:
        """Give up the number due next."""
        assert self._next is not None
        self._passed.append(self._next)
        self._next += 1
        self._lost_at = now
        self.stats.lost += 1

    def _take(self, sequence: int) -> None:
        packet = self._packets.pop(sequence)
        self._waiting -= packet.duration
        self._next = sequence + 1
        self._expected = packet.timestamp + packet.duration
        self._played = True
        self.stats.depth_ms = self._waiting * 1000 / SAMPLE_RATE

    def _too_deep(self, excess: float) -> bool:
        """Whether more than a whole frame too much was waiting each time, long enough to be no accident."""
        self._excess.append(excess)
        least = min(self._excess)
        if len(self._excess) < SHRINK_AFTER_GETS or least < HYSTERESIS:
            return False
        if least < HURRY_GENTLY_BELOW:
            for _ in range(5):
                self._excess.popleft()
        return True
