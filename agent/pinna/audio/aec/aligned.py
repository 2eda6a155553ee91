"""The engine `speexdsp`: Speex's canceller and residual echo suppressor at 16 kHz."""

from __future__ import annotations

from pinna.audio import speexdsp
from pinna.audio.aec import EchoState
from pinna.frame import FRAME_MS, SAMPLE_RATE, Samples


class AlignedSpeex:
    def __init__(self, rate: int = 16_000, tail_ms: int = 100) -> None:
        frame = rate * FRAME_MS // 1000
        self._echo = speexdsp.EchoState(frame, rate * tail_ms // 1000, rate)
        self._residual = speexdsp.Preprocessor(frame, rate, echo=self._echo)
        self._near_down = speexdsp.Resampler(SAMPLE_RATE, rate)
        self._far_down = speexdsp.Resampler(SAMPLE_RATE, rate)
        self._up = speexdsp.Resampler(rate, SAMPLE_RATE)

    def process(self, near: Samples, far: Samples) -> Samples:
        out = self._echo.cancel(self._near_down.process(near), self._far_down.process(far))
        self._residual.run(out)
        return self._up.process(out)

    def discontinuity(self) -> None:
        pass

    @property
    def state(self) -> EchoState:
        return EchoState(engine="speexdsp")

    def close(self) -> None:
        for part in (self._residual, self._echo, self._near_down, self._far_down, self._up):
            part.close()
