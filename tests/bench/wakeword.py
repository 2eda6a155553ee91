"""Wake words on synthetic speech: how many are heard, what else is taken for one, what listening costs."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from pinna.config.schema import WAKE_WORDS
from pinna.demo import speech
from pinna.frame import Samples
from pinna.session.wakeword import RATE, MicroWakeWord

VOICES = [("flite", voice) for voice in ("rms", "slt", "awb", "kal")] + [
    ("espeak-ng", voice) for voice in ("en-us", "en-gb", "en-us+f3", "en-gb-scotland", "en-us+m3")
]
SNR_DB = (40, 20, 10)
TEXTS = (speech.NEAR[1], speech.FAR[1])


def run(quick: bool) -> list[dict[str, Any]]:
    """A row for each word: heard of all tries by signal-to-noise ratio; then other speech; then the cost."""
    voices = VOICES[::4] if quick else VOICES
    rows = []
    engine = MicroWakeWord(WAKE_WORDS, 0.5)
    with tempfile.TemporaryDirectory() as name:
        for word in WAKE_WORDS:
            row: dict[str, Any] = {"said": word.replace("_", " "), "tries": len(voices)}
            wrong = 0
            for snr in SNR_DB:
                found = [
                    _heard(engine, _said(*voice, word.replace("_", " "), snr, Path(name))) for voice in voices
                ]
                row[f"heard at {snr} dB"] = sum(word in words for words in found)
                wrong += sum(bool(words - {word}) for words in found)
            rows.append({**row, "another word heard": wrong})
        sounds = [
            _said(*voice, text, snr, Path(name)) for voice in voices for text in TEXTS for snr in SNR_DB
        ]
    engine.reset()
    minutes = sum(map(len, sounds)) / RATE / 60
    began = time.process_time()
    false = sum(len(_heard(engine, sound, afresh=False)) for sound in sounds)
    cpu = time.process_time() - began
    rows.append({"said": f"{minutes:.0f} minutes of other speech", "another word heard": false})
    rows.append({"said": f"processor for {len(WAKE_WORDS)} words, %", "value": round(cpu / minutes / 0.6, 2)})
    return rows


def _said(program: str, voice: str, text: str, snr_db: float, folder: Path) -> Samples:
    """At 16 kHz amid white noise, a second of it before and after."""
    path = folder / "said.wav"
    words = {
        "flite": ["-voice", voice, "-t", text, "-o"],
        "espeak-ng": ["-v", voice, text, "-s", "150", "-w"],
    }
    subprocess.run([program, *words[program], str(path)], check=True, env=os.environ)
    with wave.open(str(path), "rb") as file:
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        sound = soxr.resample(raw.astype(np.float32), file.getframerate(), RATE)
    sound *= 0.35 * 32767 / np.max(np.abs(sound))
    level = np.sqrt(np.mean(sound**2)) * 10 ** (-snr_db / 20)
    mixed = np.random.default_rng(1).normal(0, level, len(sound) + 2 * RATE)
    mixed[RATE : RATE + len(sound)] += sound
    return mixed.astype(np.int16)


def _heard(engine: MicroWakeWord, sound: Samples, *, afresh: bool = True) -> set[str]:
    if afresh:
        engine.reset()
    return {word for at in range(0, len(sound), 1600) for word in engine.hear(sound[at : at + 1600])}
