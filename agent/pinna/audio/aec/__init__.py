"""Echo cancellers: one small interface, several engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pinna.config import EchoConfig
from pinna.errors import EchoCancellerError
from pinna.frame import Samples


@dataclass(frozen=True, slots=True)
class EchoState:
    """What an engine knows of itself. None: not measured (yet)."""

    engine: str
    delay_ms: float | None = None  # from far end block to its echo in the near end block
    drift_ppm: float | None = None  # the loudspeaker's clock against the microphone's
    erle_db: float | None = None  # echo return loss enhancement, over the last second of far-end activity
    converged: bool = False


class EchoCanceller(Protocol):
    """Takes out of the near end (microphone) what came from the far end (loudspeaker)."""

    def process(self, near: Samples, far: Samples) -> Samples:
        """One frame: both shape (960,), int16, 48 kHz, of the same callback. Returns a new one like them."""

    def discontinuity(self) -> None:
        """Samples were lost on either side (xrun, device reopened): the known delay no longer holds."""

    @property
    def state(self) -> EchoState: ...

    def close(self) -> None: ...


def create(config: EchoConfig) -> EchoCanceller:
    """The configured engine, ready. Raises EchoCancellerError, never silently another engine.

    Engines are imported when asked for: a device without the `webrtc` extra never needs it.
    """
    match config.engine:
        case "speexdsp":
            from pinna.audio.aec.aligned import AlignedSpeex  # noqa: PLC0415  only this one

            return AlignedSpeex(rate=config.rate, tail_ms=config.tail_ms)
        case "webrtc":
            from pinna.audio.aec.webrtc import WebRtc  # noqa: PLC0415  only this one

            return WebRtc()
        case "none":
            from pinna.audio.aec.passthrough import Passthrough  # noqa: PLC0415  only this one

            return Passthrough()
        case unknown:
            raise EchoCancellerError(
                f"there is no echo canceller `{unknown}`",
                hint='Set `echo.engine` to "speexdsp", "webrtc" or "none"',
                permanent=True,
            )
