"""Voice activity of one device, decided as the hubs in the field decide it."""

from __future__ import annotations

from enum import Enum
from typing import Final

from pinna.errors import ConfigError
from pinna.frame import SAMPLE_RATE, Samples

ONSET_FRAMES: Final = 3
HANGOVER_FRAMES: Final = 15
_VERY_AGGRESSIVE: Final = 3


class Voice(Enum):
    """What a frame did to the state of speech."""

    SILENT = "silent"
    ONSET = "onset"
    SPEAKING = "speaking"
    END = "end"


class VoiceActivity:
    """WebRTC's detector at its most aggressive, with an onset of 3 frames and a hangover of 15.

    Raises ConfigError when webrtcvad is not installed.
    """

    def __init__(self) -> None:
        try:
            import webrtcvad  # type: ignore[import-untyped]  # noqa: PLC0415  an optional extra, without types
        except ImportError as error:
            raise ConfigError(
                "The hub needs webrtcvad to detect voice activity",
                hint="Install the extra: pip install 'pinna[hub]'",
                permanent=True,
            ) from error
        self._detector = webrtcvad.Vad(_VERY_AGGRESSIVE)
        self._run = 0  # consecutive frames that speak against the present state
        self.active = False
        self.onsets = 0
        self.ends = 0

    def hear(self, samples: Samples) -> Voice:
        """One frame, shape (960,), int16, 48 kHz."""
        speech = self._detector.is_speech(samples.tobytes(), SAMPLE_RATE)
        self._run = 0 if speech == self.active else self._run + 1
        if self.active and self._run == HANGOVER_FRAMES:
            self._run, self.active = 0, False
            self.ends += 1
            return Voice.END
        if not self.active and self._run == ONSET_FRAMES:
            self._run, self.active = 0, True
            self.onsets += 1
            return Voice.ONSET
        return Voice.SPEAKING if self.active else Voice.SILENT
