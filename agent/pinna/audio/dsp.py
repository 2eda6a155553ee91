"""The DSP thread: one short loop from the callback's ring to clean frames.

Execution context: a thread of its own. It opens the stream, owns the echo canceller while it runs, and closes
the stream again. It never exits the process: what goes wrong in here is raised out of `live` and carried to
the supervisor by the engine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pinna.audio.aec import EchoCanceller
from pinna.audio.behind import Behind
from pinna.audio.card import Format
from pinna.audio.convert import Converter
from pinna.audio.duplex import DuplexStream, Note
from pinna.errors import DeviceError
from pinna.frame import SAMPLE_RATE, Frame, Samples
from pinna.metrics import Window

START_SECONDS = 5.0
"""A sound server may take its time to start a stream (PulseAudio: up to 2 s, often after a first block)."""

START_BLOCKS = 50
"""A stream that has delivered so many has started."""

STALL_SECONDS = 1.0
"""No block for so long means the card is gone, whatever PortAudio believes."""

REOPEN_SECONDS = 60.0
"""A stream that has lasted this long is given up when it is behind: on a machine that is too slow, to open it
again and again would lose more than it wins."""


@dataclass(slots=True)
class DspStats:
    """Written by the DSP thread, read by anyone. Levels in dBFS, RMS of the last frame."""

    frames: int = 0
    discontinuities: int = 0
    behind_ms: float = 0.0  # how much of the microphone's sound waits in the sound system, lately at least
    microphone_dbfs: float = -96.0
    speaker_dbfs: float = -96.0
    clean_dbfs: float = -96.0
    duration_ms: Window = field(default_factory=lambda: Window(512))


def live(
    stream: DuplexStream,
    form: Format,
    canceller: EchoCanceller,
    deliver: Callable[[Frame], None],
    stop: threading.Event,
    stats: DspStats,
) -> None:
    """Process blocks until `stop` is set. Raises DeviceError when the stream falls silent, or far behind."""
    near_converter = Converter(form.rate, SAMPLE_RATE)
    far_converter = Converter(form.rate, SAMPLE_RATE)
    before: Note | None = None
    start = stats.frames
    opened = last = time.monotonic()
    behind = Behind(stream.latency)
    try:
        while not stop.is_set():
            try:
                stream.waiting.get(timeout=0.1)
            except queue.Empty:
                patience = STALL_SECONDS if stats.frames - start >= START_BLOCKS else START_SECONDS
                if stream.ended.is_set() or time.monotonic() - last > patience:
                    raise DeviceError(
                        "the sound device stopped delivering sound",
                        hint="Is the microphone still plugged in? It is tried again by itself",
                    ) from None
                continue
            taken = stream.blocks.get()
            if taken is None:
                continue
            blocks, note = taken
            last = time.monotonic()
            behind.add(note.waited)
            stats.behind_ms = behind.seconds * 1000
            if behind.too_far and last - opened > REOPEN_SECONDS:
                raise behind.error()
            began = time.perf_counter()
            if before is not None and (note.sequence, note.xruns) != (before.sequence + 1, before.xruns):
                stats.discontinuities += 1
                canceller.discontinuity()
            before = note
            near, far = near_converter.convert(blocks[0]), far_converter.convert(blocks[1])
            clean = canceller.process(near, far)
            clean.flags.writeable = False
            _measure(stats, near, far, clean)
            deliver(Frame(clean, note.sequence, note.captured_at))
            stats.duration_ms.add((time.perf_counter() - began) * 1000)
    finally:
        near_converter.close()
        far_converter.close()


def _measure(stats: DspStats, near: Samples, far: Samples, clean: Samples) -> None:
    stats.frames += 1
    stats.microphone_dbfs = dbfs(near)
    stats.speaker_dbfs = dbfs(far)
    stats.clean_dbfs = dbfs(clean)


def dbfs(samples: Samples) -> float:
    """RMS level of int16 samples in dB relative to full scale (a square wave is 0 dBFS); −96 for silence."""
    wide = samples.astype(np.float32)
    power = float(np.dot(wide, wide)) / len(wide)
    return max(-96.0, 10 * float(np.log10(power / 32768.0**2))) if power > 0 else -96.0
