"""WAV files: read any, write one that survives being killed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import av
import numpy as np

from pinna.errors import ConfigError
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples

MAX_DATA_BYTES: Final = 2**32 - 1 - 36
"""The sizes in a RIFF header are 32-bit, and the outer one counts 36 bytes of header as well."""

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")


def read_frames(path: Path) -> Samples:
    """The file's sound as frames, shape (n, 960), int16, 48 kHz mono, the last frame filled up with silence.

    Any rate, width and channel count that FFmpeg reads. Raises ConfigError.
    """
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            blocks: list[Samples] = []
            for frame in container.decode(audio=0):
                blocks += [_samples(block) for block in resampler.resample(frame)]
            blocks += [_samples(block) for block in resampler.resample(None)]
    except (OSError, av.FFmpegError, IndexError) as error:
        raise ConfigError(
            f"{path} cannot be read as sound: {error}", hint="Give a WAV file that exists.", permanent=True
        ) from error
    samples = np.concatenate([np.zeros(0, np.int16), *blocks])
    if samples.size == 0:
        raise ConfigError(f"{path} holds no sound", hint="Give a WAV file with sound.", permanent=True)
    samples = np.pad(samples, (0, -samples.size % FRAME_SAMPLES))
    return samples.reshape(-1, FRAME_SAMPLES)


def _samples(block: av.AudioFrame) -> Samples:
    return block.to_ndarray().ravel().astype(np.int16, copy=False)


class WavWriter:
    """A 48 kHz mono 16-bit WAV file whose header is true after every `append`: a kill loses nothing appended.

    The file must not exist. Everything may raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data_bytes = 0
        self._file = path.open("xb")
        self._write_header()

    def append(self, data: bytes) -> None:
        self._file.seek(0, 2)
        self._file.write(data)
        self._file.flush()  # the samples first: a header must never promise what is not there
        self.data_bytes += len(data)
        self._write_header()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        width = 2
        self._file.seek(0)
        self._file.write(
            _HEADER.pack(
                b"RIFF",
                36 + self.data_bytes,
                b"WAVE",
                b"fmt ",
                16,
                1,  # PCM
                1,  # channel
                SAMPLE_RATE,
                SAMPLE_RATE * width,
                width,
                8 * width,
                b"data",
                self.data_bytes,
            )
        )
        self._file.flush()
