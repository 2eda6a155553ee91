"""What the hub does with a device: send its sound back, say something, record it, or only listen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from pinna.frame import FRAME_MS, Samples
from pinna.hub.voice import Voice
from pinna.hub.wav import MAX_DATA_BYTES, WavWriter

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_BLOCK_FRAMES: Final = 1000 // FRAME_MS  # a recording reaches its file once a second


class Mode(Protocol):
    """One device's mode, called every 20 ms on the event loop while the device is connected."""

    def tick(self, heard: Samples | None, voice: Voice) -> Samples | None:
        """From the frame that came in, if any, to the frame to send, if any. Frames: (960,), int16."""

    async def close(self) -> None:
        """The device is gone."""


MakeMode = Callable[[str], Mode]
"""From a device id to the mode of a new session."""


class Listen:
    """Nothing goes back."""

    def tick(self, heard: Samples | None, voice: Voice) -> Samples | None:
        return None

    async def close(self) -> None:
        return None


class Echo:
    """What came in goes back, `delay_ms` later."""

    def __init__(self, delay_ms: int = 0) -> None:
        self._frames: deque[Samples | None] = deque([None] * (delay_ms // FRAME_MS))

    def tick(self, heard: Samples | None, voice: Voice) -> Samples | None:
        self._frames.append(heard)
        return self._frames.popleft()

    async def close(self) -> None:
        self._frames.clear()


class Say:
    """A clip of shape (n, 960): once or for ever from the first frame on, or each time speech has ended."""

    def __init__(self, clip: Samples, start: Literal["connect", "speech"], repeat: bool) -> None:
        self._clip = clip
        self._start = start
        self._repeat = repeat
        self._at = 0 if start == "connect" else len(clip)

    def tick(self, heard: Samples | None, voice: Voice) -> Samples | None:
        if self._at >= len(self._clip):
            again = voice is Voice.END if self._start == "speech" else self._repeat
            if not again:
                return None
            self._at = 0
        frame: Samples = self._clip[self._at]
        self._at += 1
        return frame

    async def close(self) -> None:
        return None


class Record:
    """Everything heard, in `directory`/<device>-<UTC time>.wav, a new file when one is full.

    The file is opened with the first second of sound, written once a second by `executor` (which must run
    one job at a time), and complete up to that second if we are killed. A disk that refuses ends the
    recording of this device with an error in the log.
    """

    def __init__(
        self, device: str, directory: Path, executor: Executor, max_data_bytes: int = MAX_DATA_BYTES
    ) -> None:
        self._device = device
        self._directory = directory
        self._executor = executor
        self._max_data_bytes = max_data_bytes
        self._heard: list[bytes] = []
        self._writer: WavWriter | None = None
        self._failed = False

    def tick(self, heard: Samples | None, voice: Voice) -> Samples | None:
        if heard is not None and not self._failed:
            self._heard.append(heard.tobytes())
            if len(self._heard) >= _BLOCK_FRAMES:
                self._executor.submit(self._write, self._take())
        return None

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._finish, self._take())

    def _take(self) -> bytes:
        block = b"".join(self._heard)
        self._heard.clear()
        return block

    def _write(self, block: bytes) -> None:
        """In the executor."""
        if self._failed or not block:
            return
        try:
            if self._writer is not None and self._writer.data_bytes + len(block) > self._max_data_bytes:
                self._writer.close()
                self._writer = None
            if self._writer is None:
                self._writer = WavWriter(self._new_path())
                log.info("hub.recording", device=self._device, path=str(self._writer.path))
            self._writer.append(block)
        except OSError as error:
            self._failed = True
            log.error("hub.recording_failed", device=self._device, error=str(error))

    def _finish(self, block: bytes) -> None:
        """In the executor."""
        self._write(block)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _new_path(self) -> Path:
        stem = f"{self._device}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        path = self._directory / f"{stem}.wav"
        part = 1
        while path.exists():
            part += 1
            path = self._directory / f"{stem}-{part}.wav"
        return path
