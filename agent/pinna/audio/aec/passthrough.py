"""The engine `none`: the microphone as it is, echo and all."""

from __future__ import annotations

from pinna.audio.aec import EchoState
from pinna.frame import Samples


class Passthrough:
    """For rooms without a loudspeaker, or with an echo canceller of their own."""

    state = EchoState(engine="none")

    def process(self, near: Samples, far: Samples) -> Samples:
        return near.copy()

    def discontinuity(self) -> None:
        """Nothing is known, so nothing is lost."""

    def close(self) -> None:
        """Nothing was opened."""
