"""Wake words on speech that really was synthesised, through the engine and through the part that uses it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soxr
from tests.support.clock import ManualClock
from tests.support.link_device import until
from tests.support.wakeword_package import broken

from pinna.config import SessionConfig
from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Frame, Samples
from pinna.session.sessions import Sessions
from pinna.session.wakeword import RATE, MicroWakeWord, WakeWord, cutoff

WORDS = ("okay_nabu", "hey_jarvis", "alexa")
SAID = {"okay_nabu": "okay nabu", "hey_jarvis": "hey jarvis", "alexa": "alexa"}


def spoken(text: str, folder: Path, rate: int) -> Samples:
    """Said by flite's voice rms amid a little noise (−62 dBFS), a second of it before and after."""
    path = folder / "said.wav"
    subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", str(path)], check=True)
    with wave.open(str(path), "rb") as file:
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        speech = soxr.resample(raw.astype(np.float32), file.getframerate(), rate)
    speech *= 0.35 * 32767 / np.max(np.abs(speech))
    noise = np.random.default_rng(1).normal(0, 26, len(speech) + 2 * rate)
    noise[rate : rate + len(speech)] += speech
    return noise.astype(np.int16)


def heard(engine: MicroWakeWord, sound: Samples) -> list[str]:
    return [word for at in range(0, len(sound), 1600) for word in engine.hear(sound[at : at + 1600])]


@pytest.fixture(scope="module")
def engine() -> MicroWakeWord:
    return MicroWakeWord(WORDS, 0.5)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_heard_and_no_other(engine: MicroWakeWord, word: str, tmp_path: Path) -> None:
    engine.reset()
    assert set(heard(engine, spoken(SAID[word], tmp_path, RATE))) == {word}


def test_other_words_are_none(engine: MicroWakeWord, tmp_path: Path) -> None:
    engine.reset()
    assert heard(engine, spoken("Good morning. Can you hear me over there?", tmp_path, RATE)) == []


def test_a_reset_forgets_half_a_word(engine: MicroWakeWord, tmp_path: Path) -> None:
    sound = spoken(SAID["okay_nabu"], tmp_path, RATE)
    engine.reset()
    half = len(sound) // 2
    assert heard(engine, sound[:half]) == []
    engine.reset()
    assert heard(engine, sound[half:]) == []


def test_sensitivity_moves_the_threshold_both_ways() -> None:
    assert cutoff(0.85, 0.5) == 0.85
    assert cutoff(0.85, 1.0) == 0.5
    assert cutoff(0.85, 0.0) == pytest.approx(0.999)
    assert [cutoff(0.85, s / 10) for s in range(11)] == sorted(
        (cutoff(0.85, s / 10) for s in range(11)), reverse=True
    )


class Bench:
    """The part with real sessions and a real engine; `say` is the echo-cancelled microphone."""

    def __init__(self, **settings: object) -> None:
        self.clock = ManualClock()
        self.spoke_at = 0.0
        config = SessionConfig(mode="wakeword", **settings)  # type: ignore[arg-type]
        self.sessions = Sessions(config, muted=False, hub_spoke_at=lambda: self.spoke_at, clock=self.clock)
        self.microphone = Subscription("wakeword", 60_000)
        self.wake_word = WakeWord(
            config, self.microphone, self.sessions, lambda: self.spoke_at, clock=self.clock
        )
        self.number = 0

    def say(self, sound: Samples, *, lost_every: int = 0) -> None:
        for at in range(0, len(sound) - FRAME_SAMPLES, FRAME_SAMPLES):
            self.number += 1
            if lost_every and self.number % lost_every == 0:
                continue
            self.microphone.put(Frame(sound[at : at + FRAME_SAMPLES], self.number, self.clock.now))

    async def __aenter__(self) -> Bench:
        self.running = asyncio.create_task(self.wake_word.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])

    async def all_heard(self) -> None:
        """All but the last tenth of a second, which is noise."""
        await until(lambda: self.running.done() or not len(self.microphone))
        assert not self.running.done(), self.running.exception()


def test_a_wake_word_opens_a_session_muted_and_speaking_ones_do_not(tmp_path: Path) -> None:
    sound = spoken(SAID["okay_nabu"], tmp_path, SAMPLE_RATE)

    async def scenario() -> None:
        async with Bench() as bench:
            assert bench.sessions.state == "listening"
            bench.sessions.mute("test")
            bench.say(sound)
            await bench.all_heard()
            assert bench.wake_word.duration_ms.count == 0  # muted: nobody listens at all
            bench.sessions.unmute("test")

            bench.spoke_at = bench.clock.now  # the hub speaks, and may well say such a word
            bench.say(sound)
            await bench.all_heard()
            assert bench.sessions.state == "listening"

            bench.clock.advance(5)
            bench.say(sound)
            await until(lambda: bench.sessions.state == "session")
            assert bench.sessions.by == "wake word okay_nabu"
            await bench.all_heard()

            bench.sessions.close("test")
            bench.say(sound)  # within the refractory time
            await bench.all_heard()
            assert bench.sessions.state == "listening"
            bench.clock.advance(5)
            bench.say(sound)
            await until(lambda: bench.sessions.state == "session")
            assert bench.wake_word.heard == {"okay_nabu": 2}

    asyncio.run(scenario())


def test_a_lost_frame_now_and_then_does_not_hide_a_word(tmp_path: Path) -> None:
    sound = spoken(SAID["okay_nabu"], tmp_path, SAMPLE_RATE)

    async def scenario() -> None:
        async with Bench() as bench:
            bench.say(sound, lost_every=15)
            await until(lambda: bench.sessions.state == "session")

    asyncio.run(scenario())


def test_with_barge_in_it_counts_while_the_hub_speaks(tmp_path: Path) -> None:
    sound = spoken(SAID["alexa"], tmp_path, SAMPLE_RATE)

    async def scenario() -> None:
        async with Bench(barge_in="on", wake_words=WORDS) as bench:
            bench.spoke_at = bench.clock.now
            bench.say(sound)
            await until(lambda: bench.sessions.state == "session")
            assert bench.sessions.by == "wake word alexa"

    asyncio.run(scenario())


def test_without_the_package_it_says_how_to_get_it() -> None:
    program = (
        "import sys; sys.modules['pymicro_wakeword'] = None\n"
        "from pinna.errors import ConfigError\n"
        "from pinna.session.wakeword import MicroWakeWord\n"
        "try: MicroWakeWord(('okay_nabu',), 0.5)\n"
        "except ConfigError as error: print(error.permanent, error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True wake words need the package `pymicro-wakeword`")
    assert "pip install 'pinna[wakeword]'" in done.stdout


@pytest.mark.parametrize(
    ("model", "words"),
    [(None, "No such file"), (b"", "is no model"), (b"<html>not found</html>", "is no model")],
)
def test_a_model_that_is_missing_or_none_is_told_and_does_not_end_the_process(
    tmp_path: Path, model: bytes | None, words: str
) -> None:
    program = (
        "from pinna.errors import ConfigError\n"
        "from pinna.session.wakeword import MicroWakeWord\n"
        "MicroWakeWord(('alexa',), 0.5)\n"
        "try: MicroWakeWord(('alexa', 'okay_nabu'), 0.5)\n"
        "except ConfigError as error: print(error.permanent, error)"
    )
    path = str(broken(tmp_path, "okay_nabu", model))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("True the model of a wake word cannot be loaded")
    assert "okay_nabu.tflite" in done.stdout
    assert words in done.stdout
