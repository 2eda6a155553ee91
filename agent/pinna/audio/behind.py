"""How late the microphone's sound is read, by PortAudio's clock.

Whoever once gives a sound server's loudspeaker nothing in time is late with the microphone from then on:
PulseAudio takes two seconds to play again, what is heard meanwhile waits, and nothing takes it back.
"""

from __future__ import annotations

from typing import Final

from pinna.errors import DeviceError

SPARE_SECONDS: Final = 0.3
"""What may wait beyond the latency that was asked for."""

BLOCKS: Final = 100
"""Of so many the least counts: what waits for a moment is being caught up with."""

BELIEVABLE_SECONDS: Final = 60.0
"""No sound system keeps more. With some devices PortAudio's times of capture are none."""


class Behind:
    """The DSP thread's. `latency`: as asked for, in seconds."""

    def __init__(self, latency: float) -> None:
        self.seconds = 0.0
        """How long each of the last full BLOCKS blocks had waited to be read, at least."""
        self._most = latency + SPARE_SECONDS
        self._least = BELIEVABLE_SECONDS
        self._blocks = 0

    def add(self, waited: float) -> None:
        """A block was read whose first sample was captured `waited` seconds before."""
        self._least = min(self._least, waited if 0 <= waited < BELIEVABLE_SECONDS else 0.0)
        self._blocks += 1
        if self._blocks == BLOCKS:
            self.seconds, self._least, self._blocks = self._least, BELIEVABLE_SECONDS, 0

    @property
    def too_far(self) -> bool:
        return self.seconds > self._most

    def error(self) -> DeviceError:
        return DeviceError(
            f"the microphone's sound comes {self.seconds:.1f} s late: the sound system holds it",
            hint="It is opened again by itself. A sound server does this after a moment in which the machine "
            "was too busy: see what else runs, or let audio.latency_ms be more",
        )
