"""Wake words in a room where the hub's voice comes back to the microphone, louder than the talker.

From what the link plays to the session that opens: the loudspeaker's queue, the room of the demonstration,
the echo canceller and the wake word's engine are real. The sound card is a loop over frames, and time goes
with it: a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pytest
from tests.support.clock import ManualClock
from tests.support.link_device import until

from pinna.audio import aec
from pinna.audio.playback import PlaybackQueue
from pinna.config import EchoConfig, SessionConfig
from pinna.demo import speech
from pinna.demo.room import Convolver, room_response
from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Frame, Samples
from pinna.session.overheard import Overheard
from pinna.session.sessions import Sessions
from pinna.session.states import State
from pinna.session.wakeword import WakeWord

WORD = "okay_nabu"
TALKER = 0.5
"""Of the hub's loudness at the microphone: 6 dB below its echo."""

LEARNING_SECONDS = 10
NOISE = 20
"""RMS, −64 dBFS."""

Engine = Literal["speexdsp", "none"]


class Room:
    """`async with Room(...) as room:` -- each `pass_time` is so much of what its clock calls time."""

    def __init__(self, engine: Engine = "speexdsp", **settings: Any) -> None:
        config = SessionConfig(mode="wakeword", **settings)
        self.clock = ManualClock()
        self.playback = PlaybackQueue()
        self.ring = self.playback.attach(SAMPLE_RATE)
        self.hub = Overheard(self.playback, self.clock)
        self.sessions = Sessions(
            config, muted=False, hub_spoke_at=lambda: self.hub.spoke_at, clock=self.clock
        )
        self.microphone = Subscription("wakeword", 60_000)
        self.wake_word = WakeWord(
            config, self.microphone, self.sessions, lambda: self.hub.spoke_at, clock=self.clock
        )
        self._canceller = aec.create(EchoConfig(engine=engine))
        self._air = Convolver(room_response(np.random.default_rng(1)))
        self._noise = np.random.default_rng(2)
        self._number = 0

    async def __aenter__(self) -> Room:
        self._running = asyncio.create_task(self.wake_word.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        self._canceller.close()

    async def pass_time(
        self, seconds: float, *, hub: Samples | None = None, talker: Samples | None = None
    ) -> None:
        """The hub says its sound again and again, the talker his own once."""
        far, near = np.zeros(FRAME_SAMPLES, np.int16), np.zeros(FRAME_SAMPLES, np.float32)
        for number in range(int(seconds * 1000) // FRAME_MS):
            if hub is not None:
                self.hub.play(np.take(hub, np.arange(FRAME_SAMPLES) + number * FRAME_SAMPLES, mode="wrap"))
            if not self.ring.get_into(far):
                far[:] = 0
            near[:] = self._air.process(far.astype(np.float32))
            if talker is not None:
                said = talker[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
                near[: len(said)] += TALKER * said
            near += self._noise.normal(0, NOISE, FRAME_SAMPLES)
            clean = self._canceller.process(np.clip(near, -32768, 32767).astype(np.int16), far.copy())
            self.clock.advance(FRAME_MS / 1000)
            self._number += 1
            self.microphone.put(Frame(clean, self._number, self.clock.now))
            await until(lambda: self._running.done() or not len(self.microphone), 60)
            assert not self._running.done(), self._running.exception()


def spoken(voice: str, text: str, path: Path) -> Samples:
    speech.speak(voice, text, path, pause_seconds=0.0)
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


@pytest.fixture(scope="module")
def word(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return spoken("en-us", WORD.replace("_", " "), tmp_path_factory.mktemp("word") / "word.wav")


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Of the hub."""
    return spoken(*speech.FAR, tmp_path_factory.mktemp("voice") / "voice.wav")


def test_while_the_hub_speaks_nobody_listens_and_afterwards_a_word_counts(
    word: Samples, voice: Samples
) -> None:
    async def scenario() -> None:
        async with Room() as room:
            await room.pass_time(0.2, hub=voice)
            listened = room.wake_word.duration_ms.count
            await room.pass_time(LEARNING_SECONDS, hub=voice)
            await room.pass_time(3, hub=voice, talker=word)
            assert room.sessions.state is State.LISTENING
            assert not room.wake_word.heard
            assert room.wake_word.duration_ms.count == listened
            await room.pass_time(1)
            await room.pass_time(3, talker=word)
            assert (room.sessions.state, room.sessions.by) == (State.SESSION, f"wake word {WORD}")

    asyncio.run(scenario())


def test_with_barge_in_a_word_counts_while_the_hub_speaks(word: Samples, voice: Samples) -> None:
    async def scenario() -> None:
        async with Room(barge_in="on") as room:
            await room.pass_time(LEARNING_SECONDS, hub=voice)
            assert room.sessions.state is State.LISTENING
            await room.pass_time(3, hub=voice, talker=word)
            assert (room.sessions.state, room.sessions.by) == (State.SESSION, f"wake word {WORD}")

    asyncio.run(scenario())


@pytest.mark.parametrize(("engine", "opens"), [("speexdsp", False), ("none", True)])
def test_the_hubs_own_words_are_taken_away_with_its_echo(
    word: Samples, voice: Samples, engine: Engine, opens: bool
) -> None:
    async def scenario() -> None:
        async with Room(engine, barge_in="on") as room:
            await room.pass_time(LEARNING_SECONDS, hub=voice)
            await room.pass_time(1)
            assert room.sessions.state is State.LISTENING
            await room.pass_time(3, hub=np.pad(word, (0, 3 * SAMPLE_RATE)))
            assert (room.sessions.state is State.SESSION) is opens

    asyncio.run(scenario())
