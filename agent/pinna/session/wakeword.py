"""The wake word: while nothing leaves the device, the device itself listens for one.

Inference has a thread of its own. It gets a tenth of a second at a time, 16 kHz, of the echo-cancelled
microphone, and nothing while the device is muted or in a session.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

import numpy as np
import structlog

from pinna.config import SessionConfig
from pinna.errors import ConfigError
from pinna.flow.fanout import Subscription
from pinna.flow.resample import Resampler
from pinna.frame import SAMPLE_RATE, Frame, Samples
from pinna.metrics import Window
from pinna.session.sessions import Sessions
from pinna.session.states import State

log = structlog.get_logger(__name__)

RATE: Final = 16_000
BATCH_FRAMES: Final = 5
QUEUE_MS: Final = 1000
"""What may wait for a late thread."""

MODEL_MARK: Final = b"TFL3"
"""The file identifier of TensorFlow Lite's schema, behind the first four bytes."""

GAP_FRAMES: Final = 10
"""So many may be missing, and what was heard of a word still counts: a busy device loses one now and then."""

SPEECH_ENDS_SECONDS: Final = 0.5
"""After the hub's last audible frame it may still be heard: the loudspeaker's queue, and the room."""


class Engine(Protocol):
    """Listens for words. One thread at a time."""

    def hear(self, piece: Samples) -> list[str]:
        """The words detected at the end of, or within, this piece: mono, int16, 16 kHz, any length."""

    def reset(self) -> None:
        """Forget what was heard: the next piece does not follow the last one. Costs milliseconds."""


class MicroWakeWord:
    """pymicro-wakeword, whose models come in its wheel. Raises ConfigError when it cannot be loaded."""

    def __init__(self, words: tuple[str, ...], sensitivity: float) -> None:
        try:
            import pymicro_wakeword as package  # noqa: PLC0415  (an extra)
        except (ImportError, OSError) as error:
            raise ConfigError(
                f"wake words need the package `pymicro-wakeword`, which cannot be loaded ({error})",
                hint="Install it: pip install 'pinna[wakeword]', or set `session.mode` to another one",
                permanent=True,
            ) from error
        try:
            self._models: list[Any] = [_model(package, word) for word in dict.fromkeys(words)]
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the model of a wake word cannot be loaded ({error})",
                hint="Install pymicro-wakeword anew; `session.wake_words` names the words",
                permanent=True,
            ) from error
        self._make_features = package.MicroWakeWordFeatures
        self._features = self._make_features()
        self._cutoffs = [cutoff(model.probability_cutoff, sensitivity) for model in self._models]

    def hear(self, piece: Samples) -> list[str]:
        found: dict[str, None] = {}
        for features in self._features.process_streaming(piece.tobytes()):
            for model, least in zip(self._models, self._cutoffs, strict=True):
                if (model.process_streaming_prob(features) or 0.0) > least:
                    found[model.id] = None
        return list(found)

    def reset(self) -> None:
        self._features = self._make_features()
        for model in self._models:
            model.reset()


def _model(package: ModuleType, word: str) -> Any:
    """Raises OSError, ValueError. The library takes what is no model for one, and the process dies of it."""
    path = Path(str(package.__file__)).with_name("models") / f"{word}.tflite"
    with path.open("rb") as file:
        if file.read(8)[4:] != MODEL_MARK:
            raise ValueError(f"{path} is no model of TensorFlow Lite")
    return package.MicroWakeWord.from_builtin(package.Model(word))


def cutoff(of_model: float, sensitivity: float) -> float:
    """The probability above which a word counts: the model's own at 0.5, 0.5 at 1, and next to 1 at 0."""
    if sensitivity >= 0.5:
        return of_model + (0.5 - of_model) * (sensitivity - 0.5) * 2
    return of_model + (0.999 - of_model) * (0.5 - sensitivity) * 2


class WakeWord:
    """Opens a session at each wake word. `hub_spoke_at`: seconds of `clock`."""

    def __init__(
        self,
        config: SessionConfig,
        microphone: Subscription,
        sessions: Sessions,
        hub_spoke_at: Callable[[], float],
        *,
        listening: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`listening` is called once the engine has been loaded."""
        self.heard: Counter[str] = Counter()
        self.duration_ms = Window(512)
        """Of the inference of a tenth of a second."""
        self.started = False
        self._config = config
        self._microphone = microphone
        self._sessions = sessions
        self._hub_spoke_at = hub_spoke_at
        self._listening = listening
        self._clock = clock
        self._last = float("-inf")

    async def run(self) -> None:
        """Raises ConfigError when there is no engine."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "pinna-wakeword") as thread:
            engine = await loop.run_in_executor(
                thread, MicroWakeWord, self._config.wake_words, self._config.wake_sensitivity
            )
            resampler = Resampler(SAMPLE_RATE, RATE)
            self.started = True
            self._listening()
            follows = True  # what comes next follows what the engine heard last
            batch: list[Samples] = []
            before: Frame | None = None
            while True:
                frame = await self._microphone.get()
                missing = 0 if before is None else frame.sequence - before.sequence - 1
                before = frame
                if not 0 <= missing <= GAP_FRAMES:
                    follows, batch = False, []
                if not self._wanted():
                    follows, batch = False, []
                    continue
                batch.append(frame.samples)
                if len(batch) < BATCH_FRAMES:
                    continue
                piece = resampler.process(np.concatenate(batch))
                batch = []
                words = await loop.run_in_executor(thread, self._infer, engine, piece, follows)
                follows = True
                for word in words:
                    self._found(word)

    def _infer(self, engine: Engine, piece: Samples, follows: bool) -> list[str]:
        """In the thread."""
        began = time.perf_counter()
        if not follows:
            engine.reset()
        words = engine.hear(piece)
        self.duration_ms.add((time.perf_counter() - began) * 1000)
        return words

    def _wanted(self) -> bool:
        if self._sessions.state is not State.LISTENING:
            return False
        return self._config.barge_in == "on" or self._clock() - self._hub_spoke_at() > SPEECH_ENDS_SECONDS

    def _found(self, word: str) -> None:
        now = self._clock()
        if now - self._last < self._config.wake_refractory_seconds or not self._wanted():
            return
        self._last = now
        self.heard[word] += 1
        log.info("wakeword.heard", word=word)
        self._sessions.open(f"wake word {word}")
