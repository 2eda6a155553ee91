"""What the device's own loudspeaker does to listening: wake words while the hub speaks, and the tones.

A room as in tests.bench.echo: loudspeaker 10 cm from the microphone, echo -22, talker -28 dBFS, RT60 0.3 s.
All words are said by all voices, one every five seconds, with the hub silent or speaking all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from scipy import signal
from tests.bench.wakeword import SNR_DB, VOICES
from tests.support import scenes
from tests.support.scenes import FAR_VOICES, Signal, active_rms

from pinna.audio.aec import create
from pinna.config import EchoConfig, SessionConfig
from pinna.config.schema import WAKE_WORDS
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples
from pinna.session.sessions import Change
from pinna.session.states import State
from pinna.session.tones import notes_of, tone
from pinna.session.wakeword import RATE, MicroWakeWord

ECHO_DBFS, TALKER_DBFS, NOISE_DBFS = -22, -28, -58
FAR_DBFS = -20
DELAY_MS = 40
LEAD_SECONDS = 10
"""The hub speaks before the first word: the canceller has learnt the room."""

APART_SECONDS = 5
LATE_SECONDS = 3.5
"""After a word began, for as long as it counts as heard."""


@dataclass(frozen=True)
class Words:
    """What is said: `sound` (48 kHz, full scale 1), and at which second which word began."""

    sound: Signal
    begun: list[tuple[float, str]]


def level(dbfs: float) -> float:
    return float(10 ** (dbfs / 20))


def said(voices: list[tuple[str, str]]) -> Words:
    """Each word by each voice, in an order that has nothing to do with either."""
    sayings = [(word, voice) for word in WAKE_WORDS for voice in voices]
    order = np.random.default_rng(5).permutation(len(sayings))
    sound = np.zeros((LEAD_SECONDS + APART_SECONDS * len(sayings)) * SAMPLE_RATE)
    begun = []
    for number, which in enumerate(order):
        word, voice = sayings[which]
        at = LEAD_SECONDS + APART_SECONDS * number
        speech = scenes.say(*voice, word.replace("_", " "))[: APART_SECONDS * SAMPLE_RATE]
        sound[at * SAMPLE_RATE : at * SAMPLE_RATE + len(speech)] = speech
        begun.append((float(at), word))
    return Words(sound, begun)


def echo_of(far: Samples) -> Signal:
    """What of it comes back to the microphone, at the gain that brings speech of FAR_DBFS to ECHO_DBFS."""
    heard = signal.fftconvolve(far / 32768, scenes.room(0.3, 0.1, 0))[: len(far)]
    reference = signal.fftconvolve(hub(10) / 32768, scenes.room(0.3, 0.1, 0))
    delay = DELAY_MS * SAMPLE_RATE // 1000
    return np.asarray(
        np.concatenate([np.zeros(delay), heard])[: len(far)] * level(ECHO_DBFS) / active_rms(reference)
    )


def hub(seconds: int) -> Samples:
    """It speaks all the time."""
    speech = scenes.speech(seconds * SAMPLE_RATE, FAR_VOICES, np.random.default_rng(6))
    return pcm(speech * level(FAR_DBFS))


def pcm(sound: Signal) -> Samples:
    return np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def talker(words: Words) -> Signal:
    heard = np.asarray(signal.fftconvolve(words.sound, scenes.room(0.3, 0.8, 1000))[: len(words.sound)])
    return heard * level(TALKER_DBFS) / active_rms(heard)


def noise(samples: int, dbfs: float) -> Signal:
    return np.random.default_rng(7).normal(0, level(dbfs), samples)


def cancelled(near: Samples, far: Samples, engine: str) -> Samples:
    """`near` as the agent hears it."""
    canceller = create(EchoConfig(engine=engine))  # type: ignore[arg-type]  (one of its names)
    try:
        starts = range(0, len(near) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        return np.concatenate(
            [canceller.process(near[n : n + FRAME_SAMPLES], far[n : n + FRAME_SAMPLES]) for n in starts]
        )
    finally:
        canceller.close()


def detections(engine: MicroWakeWord, sound: Samples) -> list[tuple[float, str]]:
    engine.reset()
    slow = soxr.resample(sound, SAMPLE_RATE, RATE)
    return [
        (at / RATE, word) for at in range(0, len(slow), 1600) for word in engine.hear(slow[at : at + 1600])
    ]


def heard(words: Words, found: list[tuple[float, str]]) -> tuple[dict[str, int], int]:
    """How often each word was heard when it was said, and how often anything else was."""
    counts = dict.fromkeys(WAKE_WORDS, 0)
    wrong: set[tuple[float, str]] = set()
    for begun, word in words.begun:
        inside = {other for at, other in found if begun <= at < begun + LATE_SECONDS}
        counts[word] += word in inside
        wrong |= {(begun, other) for other in inside - {word}}
    between = [at for at, _ in found if not any(b <= at < b + LATE_SECONDS for b, _ in words.begun)]
    return counts, len(wrong) + len({round(at) for at in between})


def run(quick: bool) -> list[dict[str, Any]]:
    """A row for each state of the hub and each noise, in decibels of the talker; then the hub's own words."""
    return [*_words(quick), *_itself(quick)]


def tones(quick: bool) -> list[dict[str, Any]]:
    """What of the tones' echo is left; short anyway."""
    return list(_tones())


def _words(quick: bool) -> Iterator[dict[str, Any]]:
    words = said(VOICES[::4] if quick else VOICES)
    engine = MicroWakeWord(WAKE_WORDS, SessionConfig().wake_sensitivity)
    speaking, silent = hub(len(words.sound) // SAMPLE_RATE), np.zeros(len(words.sound), np.int16)
    for snr in SNR_DB[1:] if quick else SNR_DB:
        for what, far, canceller in (
            ("silent", silent, "speexdsp"),
            ("speaks, cancelled", speaking, "speexdsp"),
            ("speaks, not cancelled", speaking, "none"),
        ):
            near = talker(words) + noise(len(words.sound), TALKER_DBFS - snr)
            if far is speaking:
                near = near + echo_of(far)
            counts, wrong = heard(words, detections(engine, cancelled(pcm(near), far, canceller)))
            yield {
                "hub": what,
                "noise dB": -snr,
                "tries of each": len(words.begun) // len(WAKE_WORDS),
                **{word.replace("_", " "): count for word, count in counts.items()},
                "other or in vain": wrong,
            }


def _itself(quick: bool) -> Iterator[dict[str, Any]]:
    """The hub says the words, nobody else does: none is to be heard."""
    words = said(VOICES[::4] if quick else VOICES)
    far = pcm(words.sound * level(FAR_DBFS))
    far[: LEAD_SECONDS * SAMPLE_RATE] = hub(LEAD_SECONDS)
    near = pcm(echo_of(far) + noise(len(far), NOISE_DBFS))
    engine = MicroWakeWord(WAKE_WORDS, SessionConfig().wake_sensitivity)
    for canceller in ("speexdsp", "none"):
        counts, wrong = heard(words, detections(engine, cancelled(near, far, canceller)))
        yield {
            "hub": "says them itself, " + ("cancelled" if canceller == "speexdsp" else "not cancelled"),
            "noise dB": NOISE_DBFS - ECHO_DBFS,
            "tries of each": len(words.begun) // len(WAKE_WORDS),
            **{word.replace("_", " "): count for word, count in counts.items()},
            "other or in vain": wrong,
        }


def _tones() -> Iterator[dict[str, Any]]:
    """All four, five seconds apart and three times over: their echo, and what of it is left."""
    changes = [
        Change(State.IDLE, State.SESSION, "bench"),
        Change(State.SESSION, State.IDLE, "bench"),
        Change(State.SESSION, State.MUTED, "bench"),
        Change(State.MUTED, State.IDLE, "bench"),
    ] * 3
    sounds = [np.concatenate(tone(*notes_of(change))) for change in changes]
    engine = MicroWakeWord(WAKE_WORDS, SessionConfig().wake_sensitivity)
    for before, lead in (("nothing was played before", 0), ("the hub has spoken for 10 s", LEAD_SECONDS)):
        far = np.zeros((lead + 1 + APART_SECONDS * len(changes)) * SAMPLE_RATE, np.int16)
        if lead:
            far[: lead * SAMPLE_RATE] = hub(lead)
        begun = [(lead + 1 + APART_SECONDS * number) * SAMPLE_RATE for number in range(len(changes))]
        for start, sound in zip(begun, sounds, strict=True):
            far[start : start + len(sound)] = sound
        near = pcm(echo_of(far) + noise(len(far), NOISE_DBFS))
        clean = cancelled(near, far, "speexdsp")
        width = SAMPLE_RATE // 2  # the tone, its echo and the canceller's own delay

        def dbfs(of: Samples, starts: list[int], width: int = width) -> float:
            parts = [of[start : start + width] / 32768 for start in starts]
            return round(10 * float(np.log10(np.mean([np.mean(part**2) for part in parts]))), 1)

        after = [start + 2 * SAMPLE_RATE for start in begun]
        yield {
            "tones after": before,
            "echo dBFS": dbfs(near, begun),
            "left dBFS": dbfs(clean, begun),
            "left of the first": dbfs(clean, begun[:1]),
            "quiet dBFS": dbfs(clean, after),
            "taken for words": len(detections(engine, clean[lead * SAMPLE_RATE :])),
        }
