"""Two voices for the demonstration, spoken by espeak-ng."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from pathlib import Path
from typing import Final

import numpy as np

from pinna.audio.speexdsp import Resampler
from pinna.errors import PinnaError
from pinna.frame import SAMPLE_RATE

NEAR: Final = (
    "en-gb",
    "Good morning. I am standing in the room, next to the microphone. Can you hear me over there?",
)
FAR: Final = (
    "en-us+f3",
    "This is the hub speaking. What I say comes out of the loudspeaker in your room, and from there it goes "
    "straight back into your microphone. You should not hear me twice. The quick brown fox jumps over the "
    "lazy dog, while five boxing wizards jump quickly, and nobody in the kitchen has noticed anything yet.",
)


def speak(voice: str, text: str, path: Path, *, pause_seconds: float) -> None:
    """Write silence, then `text`, as mono 16-bit WAV of 48 kHz. Raises PinnaError without espeak-ng."""
    if shutil.which("espeak-ng") is None:
        raise PinnaError(
            "the demonstration speaks with `espeak-ng`, which is not installed",
            hint="Install it: sudo apt install espeak-ng",
        )
    command = ["espeak-ng", "-v", voice, "-s", "150", "--stdout", text]
    spoken = subprocess.run(command, capture_output=True, check=True)
    with wave.open(io.BytesIO(spoken.stdout), "rb") as file:
        rate = file.getframerate()
        # espeak-ng writes to a pipe, so its header claims a length that it could not know: take what is there
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    resampler = Resampler(rate, SAMPLE_RATE)
    whole = np.pad(samples, (0, -len(samples) % rate))  # whole seconds: a whole number of samples at any rate
    audio = resampler.process(whole)
    resampler.close()
    peak = max(1, int(np.max(np.abs(audio.astype(np.int32)))))
    audio = (audio.astype(np.float32) * (0.35 * 32767 / peak)).astype(np.int16)
    pause = np.zeros(int(pause_seconds * SAMPLE_RATE), np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.concatenate([pause, audio]).tobytes())
