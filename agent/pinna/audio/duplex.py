"""The PortAudio callback: microphone and loudspeaker blocks of one instant, side by side.

Execution context: PortAudio's own real-time thread. `_callback` copies and counts into preallocated memory;
it takes no lock that can block, logs nothing, knows no event loop, and lets no exception out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pinna.audio.card import Card, Direction, Format
from pinna.errors import DeviceError
from pinna.flow.ring import Ring
from pinna.frame import FRAME_MS, Samples
from pinna.metrics import Window

RING_FRAMES = 10
"""How far the DSP thread may fall behind before frames are lost: 200 ms."""


@dataclass(slots=True)
class CaptureStats:
    """Written by the callback, read by anyone. Survives the streams it counts."""

    frames: int = 0
    skipped: int = 0  # frame times that passed while no stream was open
    played: int = 0  # frames of far speech handed to the loudspeaker
    overflows: int = 0  # PortAudio: input was lost before this callback
    underflows: int = 0  # PortAudio: the loudspeaker ran dry before this callback
    ring_full: int = 0  # the DSP thread was late: the frame was dropped
    errors: int = 0  # exceptions inside the callback: always a bug
    overruns: int = 0  # callbacks that took longer than a frame lasts
    last_ms: float = 0.0
    duration_ms: Window = field(default_factory=lambda: Window(512))


@dataclass(frozen=True, slots=True)
class Note:
    """What the callback tells the DSP thread about a block."""

    sequence: int
    captured_at: float  # CLOCK_MONOTONIC, seconds
    xruns: int  # so far; a change means that samples were lost on one side
    waited: float  # seconds that its first sample waited to be read, as PortAudio says; not always true


class DuplexStream:
    """One open PortAudio stream. `ended` is set when it has stopped, by itself or by `close`."""

    def __init__(
        self,
        sounddevice: ModuleType,
        form: Format,
        latency_ms: int,
        far: Ring,
        stats: CaptureStats,
    ) -> None:
        """`far`: blocks to play, shape (1, form.block). Raises DeviceError when the device does not open."""
        self.blocks = Ring(RING_FRAMES, rows=2, block=form.block)
        self.waiting: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One token per block in `blocks`: what the DSP thread sleeps on (`put` never blocks)."""
        self.ended = threading.Event()
        self.latency = latency_ms / 1000
        """As asked for, in seconds."""
        self._far = far
        self._played = np.zeros(form.block, np.int16)
        self._stats = stats
        options: dict[str, Any] = {
            "samplerate": form.rate,
            "blocksize": form.block,
            "dtype": "int16",
            "latency": self.latency,
            "finished_callback": self.ended.set,
        }
        try:
            if form.output is None:
                self._stream = sounddevice.InputStream(
                    device=form.input, channels=form.input_channels, callback=self._capture, **options
                )
            else:
                self._stream = sounddevice.Stream(
                    device=(form.input, form.output),
                    channels=(form.input_channels, form.output_channels),
                    callback=self._callback,
                    **options,
                )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(
                f"the sound device does not open ({error})",
                hint="Another program may hold it (`fuser -v /dev/snd/*` tells which): use `shared_mic`",
            ) from error

    def close(self) -> None:
        """Blocks until the callback has returned for the last time."""
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)

    def _callback(
        self, indata: NDArray[np.int16], outdata: NDArray[np.int16], frames: int, instant: Any, status: Any
    ) -> None:
        began = time.perf_counter()
        try:
            played = self._played
            if self._far.get_into(played):
                self._stats.played += 1
            else:
                played.fill(0)
            outdata[:] = played[:, None]
            self._pass_on(indata[:, 0], played, instant, status)
        except Exception:  # noqa: BLE001 - an exception out of here would end the stream; it is counted instead
            self._stats.errors += 1
            outdata.fill(0)
        self._measure(began)

    def _capture(self, indata: NDArray[np.int16], frames: int, instant: Any, status: Any) -> None:
        """`_callback` for a device without a loudspeaker: the far end is silence."""
        began = time.perf_counter()
        try:
            self._pass_on(indata[:, 0], self._played, instant, status)
        except Exception:  # noqa: BLE001 - as above
            self._stats.errors += 1
        self._measure(began)

    def _pass_on(self, near: Samples, far: Samples, instant: Any, status: Any) -> None:
        stats = self._stats
        if status:
            stats.overflows += bool(status.input_overflow)
            stats.underflows += bool(status.output_underflow)
        note = Note(
            stats.frames + stats.skipped,
            time.monotonic(),
            stats.overflows + stats.underflows,
            instant.currentTime - instant.inputBufferAdcTime,
        )
        stats.frames += 1
        if self.blocks.put(near, far, note=note):
            self.waiting.put(None)
        else:
            stats.ring_full += 1

    def _measure(self, began: float) -> None:
        taken = (time.perf_counter() - began) * 1000
        self._stats.last_ms = taken
        self._stats.duration_ms.add(taken)
        self._stats.overruns += taken > FRAME_MS


def device_opens(sounddevice: ModuleType) -> Callable[[Direction, Card, int, int], bool]:
    """Asks the device itself: for `choose_format`."""

    def opens(direction: Direction, card: Card, channels: int, rate: int) -> bool:
        check = getattr(sounddevice, f"check_{direction}_settings")
        try:
            check(device=card.index, channels=channels, dtype="int16", samplerate=rate)
        except (sounddevice.PortAudioError, ValueError):
            return False
        return True

    return opens
