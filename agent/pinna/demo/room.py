"""The room of the demonstration: what the loudspeaker plays comes back to the microphone, and someone talks.

Run as a process of its own (`python -m pinna.demo.room SPEECH.wav`) between the two null sinks of the virtual
sound server: 20 ms blocks from the loudspeaker's monitor, through a decaying room response, plus speech and a
little noise, into the microphone. The loudspeaker's monitor is the clock. When the talker begins or ends,
a JSON line on stdout tells so: {"talking": bool, "at": seconds of the monotonic clock}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE

ECHO_GAIN_DB: Final = -12.0
NOISE_DBFS: Final = -62.0
REVERBERATION_SECONDS: Final = 0.2  # RT60: a furnished living room
CLIENT_LATENCY_MS: Final = 40
BREATH_SAMPLES: Final = 2 * SAMPLE_RATE

Signal = NDArray[np.float32]


def room_response(rng: np.random.Generator) -> Signal:
    """A direct path and an exponentially decaying tail (Polack's model), 120 ms long, unit energy."""
    length = int(0.12 * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal(length) * np.exp(-6.91 * time / REVERBERATION_SECONDS) * 0.05
    tail[:48] = 0.0
    tail[0] = 1.0
    return np.asarray(tail / np.sqrt(np.sum(tail**2)), np.float32)


class Convolver:
    """Overlap-save convolution, one block of 960 samples at a time."""

    def __init__(self, response: Signal) -> None:
        self._history = np.zeros(len(response) - 1 + FRAME_SAMPLES, np.float32)
        self._size = 1 << (len(self._history) + len(response) - 2).bit_length()
        self._spectrum = np.fft.rfft(response, self._size)

    def process(self, block: Signal) -> Signal:
        self._history = np.concatenate([self._history[FRAME_SAMPLES:], block])
        whole = np.fft.irfft(np.fft.rfft(self._history, self._size) * self._spectrum, self._size)
        end = len(self._history)
        return np.asarray(whole[end - FRAME_SAMPLES : end], np.float32)


def read_speech(path: Path) -> Signal:
    """Mono 48 kHz 16-bit WAV as float, full scale 1.0."""
    with wave.open(str(path), "rb") as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (SAMPLE_RATE, 1, 2):
            raise SystemExit(f"{path}: not a mono 16-bit WAV of {SAMPLE_RATE} Hz")
        raw = file.readframes(file.getnframes())
    return np.frombuffer(raw, np.int16).astype(np.float32) / 32768.0


def main() -> None:
    rng = np.random.default_rng(1)
    speech = read_speech(Path(sys.argv[1]))
    convolver = Convolver(room_response(rng))
    gain = 10 ** (ECHO_GAIN_DB / 20)
    noise = 10 ** (NOISE_DBFS / 20)
    raw = ["--raw", "--format=s16le", f"--rate={SAMPLE_RATE}", "--channels=1"]
    raw += [f"--latency-msec={CLIENT_LATENCY_MS}", "--client-name=pinna-room"]
    with (
        subprocess.Popen(["parec", "--device=speaker.monitor", *raw], stdout=subprocess.PIPE) as heard,
        subprocess.Popen(["pacat", "--playback", "--device=mic", *raw], stdin=subprocess.PIPE) as spoken,
    ):
        assert heard.stdout is not None
        assert spoken.stdin is not None
        try:
            position = 0
            talking: bool | None = None
            while len(data := heard.stdout.read(FRAME_SAMPLES * 2)) == FRAME_SAMPLES * 2:
                played = np.frombuffer(data, np.int16).astype(np.float32) / 32768.0
                said = np.take(speech, np.arange(position, position + FRAME_SAMPLES), mode="wrap")
                position += FRAME_SAMPLES
                # a breath between two words is not the end of talking: look two seconds ahead
                ahead = np.take(speech, np.arange(position, position + BREATH_SAMPLES, 480), mode="wrap")
                if talking != (now := bool(np.any(said) or (talking and np.any(ahead)))):
                    talking = now
                    sys.stdout.write(json.dumps({"talking": talking, "at": time.monotonic()}) + "\n")
                    sys.stdout.flush()
                hiss = rng.standard_normal(FRAME_SAMPLES) * noise
                sound = convolver.process(played) * gain + said + hiss
                spoken.stdin.write((np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes())
                spoken.stdin.flush()
        except (BrokenPipeError, KeyboardInterrupt):
            pass  # the sound server is gone, or the demonstration is over
        finally:
            heard.terminate()
            spoken.terminate()


if __name__ == "__main__":
    main()
