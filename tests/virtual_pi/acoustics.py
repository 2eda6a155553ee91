"""What a virtual microphone hears: sources, and the room between the speaker and the microphone.

Signals are float32 in -1..1, shape (samples, channels) or (samples,) for mono.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float32]
Source = Callable[[int, int], NDArray[Any]]
"""source(samples, rate) -> the next `samples`, (samples,) or (samples, channels), without a seam."""


def silence(samples: int, _rate: int) -> Signal:
    return np.zeros(samples, np.float32)


def tone(*frequencies: float, amplitude: float = 0.25) -> Source:
    """A sine, one channel a frequency (Hz), phase-continuous from its first sample."""
    position = 0

    def source(samples: int, rate: int) -> Signal:
        nonlocal position
        at = np.arange(position, position + samples, dtype=np.float64)[:, None] / rate
        position += samples
        sine: Signal = np.sin(2 * np.pi * at * np.asarray(frequencies)).astype(np.float32)
        return sine * np.float32(amplitude)

    return source


def clip(signal: NDArray[Any], rate: int, *, loop: bool = True) -> Source:
    """Plays `signal`, recorded at `rate`, over and over or once and then silence."""
    sounds: dict[int, Signal] = {rate: _columns(signal)}
    position = 0

    def source(samples: int, wanted: int) -> Signal:
        nonlocal position
        if wanted not in sounds:
            sounds[wanted] = resample(sounds[rate], rate, wanted)
        sound = sounds[wanted]
        index = np.arange(position, position + samples)
        position += samples
        if loop:
            return sound[index % len(sound)]
        out = np.zeros((samples, sound.shape[1]), np.float32)
        inside = index < len(sound)
        out[inside] = sound[index[inside]]
        return out

    return source


def wav(path: Path, *, loop: bool = True) -> Source:
    """A 16-bit WAV file as a source."""
    return clip(*read_wav(path), loop=loop)


def read_wav(path: Path) -> tuple[Signal, int]:
    """(samples, channels) and the rate, of a 16-bit file."""
    with wave.open(str(path), "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path} has {8 * file.getsampwidth()}-bit samples, not 16")
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return (data.reshape(-1, file.getnchannels()) / np.float32(32768)).astype(
            np.float32
        ), file.getframerate()


def write_wav(path: Path, signal: NDArray[Any], rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(_columns(signal).shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(to_pcm(_columns(signal)))


def to_pcm(signal: NDArray[Any]) -> bytes:
    """16-bit little-endian, interleaved; clipped, not wrapped."""
    return np.clip(np.rint(signal * 32767.0), -32768, 32767).astype("<i2").tobytes()


def resample(signal: Signal, rate: int, wanted: int) -> Signal:
    """Band-limited, by Fourier transform of the whole signal (which is taken as periodic)."""
    length = round(len(signal) * wanted / rate)
    spectrum = np.fft.rfft(signal, axis=0)
    keep = min(len(spectrum), length // 2 + 1)
    out = np.fft.irfft(spectrum[:keep], length, axis=0) * (length / len(signal))
    return out.astype(np.float32)


def _columns(signal: NDArray[Any]) -> Signal:
    array = np.asarray(signal, np.float32)
    return array[:, None] if array.ndim == 1 else array


class Room:
    """The acoustic path from the speaker to the microphone: delay (ms), gain, and a room impulse response.

    Both ends speak in bus time (seconds): what is played at t reaches the microphone from t + delay on.
    `response` is sampled at `Room.RATE`; by default the direct sound alone.
    """

    RATE = 48000
    _SECONDS = 8

    def __init__(
        self, *, delay_ms: float = 20.0, gain: float = 0.5, response: NDArray[Any] | None = None
    ) -> None:
        self._delay = delay_ms / 1000
        self._response = gain * np.asarray([1.0] if response is None else response, np.float64)
        self._air = np.zeros(self._SECONDS * self.RATE)
        self._clean_to = 0  # the air is silent from here up to a buffer's length after the oldest sample

    def play(self, at: float, mono: NDArray[np.float64], rate: int) -> None:
        """The speaker emits `mono` from bus time `at` on."""
        if rate != self.RATE:
            span = len(mono) / rate
            steps = np.arange(round(span * self.RATE)) / self.RATE
            mono = np.interp(steps, np.arange(len(mono)) / rate, mono)
        size = len(mono) + len(self._response) - 1
        padded = 1 << (size - 1).bit_length()
        heard = np.fft.irfft(np.fft.rfft(mono, padded) * np.fft.rfft(self._response, padded), padded)[:size]
        start = round((at + self._delay) * self.RATE)
        self._clean(start + size)
        self._air[np.arange(start, start + size) % len(self._air)] += heard

    def _clean(self, end: int) -> None:
        if end > self._clean_to:
            fresh = np.arange(max(self._clean_to, end - len(self._air)), end)
            self._air[fresh % len(self._air)] = 0.0
            self._clean_to = end

    def heard(self, at: float, samples: int, rate: float) -> NDArray[np.float64]:
        """What arrives at the microphone from bus time `at` on."""
        position = (at + np.arange(samples) / rate) * self.RATE
        whole = np.floor(position).astype(np.int64)
        self._clean(int(whole[-1]) + 2)
        part = position - whole
        size = len(self._air)
        return self._air[whole % size] * (1 - part) + self._air[(whole + 1) % size] * part
