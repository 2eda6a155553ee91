"""Sound that libsndfile does not know, decoded by FFmpeg's libraries (PyAV, which comes with WebRTC)."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

LEAD_PACKETS: Final = 4
"""Are decoded before the first that is wanted: a packet of AAC needs the one before it to sound right."""


class AvSound:
    """Of `soundfile.SoundFile` what is used here, and no more: samples of 16 bits, forwards."""

    def __init__(self, source: Path | io.RawIOBase) -> None:
        """Raises ValueError or OSError."""
        self._source = source
        self.name = str(source)
        self.samplerate = 0  # of HE-AAC, headers tell but a half: the first frame knows
        try:
            frame = next(self._frames(0), None)
        except (IndexError, av.error.FFmpegError) as error:
            if isinstance(error, OSError):
                raise
            raise ValueError(f"it is of no known format: {error}") from error
        if frame is None:
            raise ValueError("there is no sound in it")
        self.samplerate = int(frame.sample_rate)
        self._layout = frame.layout.name
        self.channels: int = len(frame.layout.channels)
        self.seek(0)

    def __enter__(self) -> AvSound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._blocks.close()

    @cached_property
    def frames(self) -> int:
        """By the lengths of its packets: nothing is decoded."""
        with self._open() as container:
            return sum(self._samples(packet) for packet in container.demux(audio=0))

    def seek(self, frame: int) -> None:
        self._rest: NDArray[np.int16] = np.empty((0, self.channels), np.int16)
        self._blocks = self._decoded(frame)

    def read(self, frames: int, dtype: str = "int16", always_2d: bool = True) -> NDArray[np.int16]:
        """(frames, channels), at the end fewer."""
        assert (dtype, always_2d) == ("int16", True)
        found, count = [self._rest], len(self._rest)
        while count < frames and (block := next(self._blocks, None)) is not None:
            found.append(block)
            count += len(block)
        whole = np.concatenate(found)
        self._rest = whole[frames:]
        return whole[:frames]

    def _open(self) -> Any:
        if isinstance(self._source, Path):
            return av.open(str(self._source), metadata_errors="replace")
        self._source.seek(0)
        return av.open(self._source, metadata_errors="replace")

    def _samples(self, packet: Any) -> int:
        samples: int = round((packet.duration or 0) * packet.time_base * self.samplerate)
        return samples

    def _frames(self, first: int) -> Iterator[Any]:
        """Decoded frames from a little before sample `first` on; each `pts` is its first sample."""
        with self._open() as container:
            at = 0
            decoding = not first
            for packet in container.demux(audio=0):
                length = self._samples(packet)
                decoding = decoding or at + LEAD_PACKETS * length >= first
                if not decoding:
                    at += length
                    continue
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    at += length  # damaged on the way here; what follows is fine
                    continue
                for frame in frames:
                    frame.pts = at
                    at += frame.samples
                    yield frame

    def _decoded(self, first: int) -> Generator[NDArray[np.int16]]:
        even = av.AudioResampler("s16", self._layout, self.samplerate)
        at = first
        for frame in self._frames(first):
            begin, end = int(frame.pts), int(frame.pts) + frame.samples
            if begin > at:
                yield np.zeros((begin - at, self.channels), np.int16)
            for block in even.resample(frame):
                samples: NDArray[Any] = block.to_ndarray().reshape(-1, self.channels)
                yield samples[max(0, first - begin) :]
            at = end
