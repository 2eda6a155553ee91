"""One device as the hub sees it, and whoever listens to it."""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_MS, SILENCE, Frame, Samples
from pinna.hub.modes import Mode
from pinna.hub.peer import Peer
from pinna.hub.voice import Voice, VoiceActivity
from pinna.links.media import Receiver
from pinna.links.opus import Encoder
from pinna.links.sender import PacketTrack

SEND_QUEUE_MS: Final = 200
LEVEL_FLOOR_DB: Final = -96.0  # 16 bits
_LEVEL_FALL_DB: Final = 60.0 * FRAME_MS / 1000  # in a frame: slow enough for the eye, quick enough for words
_LATENCIES: Final = 10_000 // FRAME_MS
_PLAUSIBLE_MS: Final = 5000.0


@dataclass(slots=True)
class Counters:
    """Of the whole hub, since its start."""

    frames_forwarded: int = 0  # heard while somebody spoke
    vad_onsets: int = 0
    vad_ends: int = 0
    tts_frames_routed: int = 0
    tts_frames_dropped: int = 0


class Voicebox:
    """The way out to one peer: frames of one clock in, Opus packets out, never more than 200 ms waiting."""

    def __init__(self) -> None:
        self._queue = Subscription("hub", SEND_QUEUE_MS)
        self.track = PacketTrack(self._queue.get, Encoder(fec=True))

    def say(self, samples: Samples, tick: int, now: float) -> bool:
        """False: an older frame had to go for this one."""
        dropped = self._queue.dropped
        self._queue.put(Frame(samples, tick, now))
        return self._queue.dropped == dropped

    def close(self) -> None:
        self._queue.close()


class Listener:
    """A browser that hears what a device says."""

    def __init__(self, silence_seconds: float, gone: Callable[[Listener, str], None]) -> None:
        self._voicebox = Voicebox()
        self.peer = Peer(self._voicebox.track, silence_seconds, lambda why: gone(self, why))

    def hear(self, samples: Samples, tick: int, now: float) -> None:
        if self.peer.connected:
            self._voicebox.say(samples, tick, now)

    async def close(self) -> None:
        self._voicebox.close()
        await self.peer.close()


class Session:
    """One connection of one device."""

    def __init__(
        self,
        device: str,
        mode: Mode,
        counters: Counters,
        silence_seconds: float,
        gone: Callable[[Session, str], None],
    ) -> None:
        self.device = device
        self.key = secrets.token_urlsafe(12)
        self.since = datetime.now(UTC)
        self._mode = mode
        self._counters = counters
        self._voice = VoiceActivity()
        self._voicebox = Voicebox()
        self.peer = Peer(self._voicebox.track, silence_seconds, lambda why: gone(self, why))
        self._receiver = Receiver(self.peer.transceiver.receiver)
        self._level_dbfs = LEVEL_FLOOR_DB
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)

    def tick(self, tick: int, now: float) -> Samples | None:
        """Called every 20 ms. Returns what the device said, shape (960,), for those who listen to it."""
        if not self.peer.connected:
            return None
        heard = self._receiver.frame(now)
        voice = self._listen(heard)
        said = self._mode.tick(heard, voice)
        if said is not None:
            if self.peer.receives and self._voicebox.say(said, tick, now):
                self._counters.tts_frames_routed += 1
            else:
                self._counters.tts_frames_dropped += 1
        return heard

    async def close(self) -> None:
        self._voicebox.close()
        await self.peer.close()
        await self._mode.close()

    def figures(self) -> dict[str, Any]:
        stats = self._receiver.stats
        return {
            "connected": self.peer.connected,
            "connected_since": self.since.isoformat(timespec="seconds"),
            "codec": "opus",
            "frames_received": stats.received,
            "lost": stats.lost,
            "late": stats.late,
            "recovered": stats.recovered,
            "concealed": stats.concealed,
            "jitter_ms": round(stats.jitter_ms, 2),
            "buffer_ms": round(stats.target_ms, 1),
            "latency_ms": self._latency(),
            "level_dbfs": round(self._level_dbfs, 1),
            "speech": self._voice.active,
        }

    def _listen(self, heard: Samples | None) -> Voice:
        level = LEVEL_FLOOR_DB if heard is None else level_dbfs(heard)
        self._level_dbfs = max(level, self._level_dbfs - _LEVEL_FALL_DB)
        if heard is None:
            # A pause in the stream is silence to the detector: speech must end, and be counted, in it too.
            return self._count(self._voice.hear(SILENCE)) if self._voice.active else Voice.SILENT
        if self._receiver.latency_ms is not None and 0 <= self._receiver.latency_ms < _PLAUSIBLE_MS:
            self._latencies.append(self._receiver.latency_ms)
        voice = self._count(self._voice.hear(heard))
        if voice in (Voice.ONSET, Voice.SPEAKING):
            self._counters.frames_forwarded += 1
        return voice

    def _count(self, voice: Voice) -> Voice:
        self._counters.vad_onsets += voice is Voice.ONSET
        self._counters.vad_ends += voice is Voice.END
        return voice

    def _latency(self) -> dict[str, float] | None:
        """Capture to handing out, over the last 10 s, if the device's clock agrees with ours."""
        if not self._latencies:
            return None
        p50, p99 = np.percentile(self._latencies, (50, 99))
        return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def level_dbfs(samples: Samples) -> float:
    """RMS level in dB relative to full scale, not under -96."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) / 32768**2
    return max(LEVEL_FLOOR_DB, 10 * math.log10(power)) if power else LEVEL_FLOOR_DB
