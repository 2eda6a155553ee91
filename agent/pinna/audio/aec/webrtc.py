"""The engine `webrtc`: WebRTC's AEC3, from the optional package `livekit`.

It takes the echo out whatever the delay or the clocks, and mutes the talker in double talk; it costs more
memory than the default engine. It finds the delay itself and tells nothing of what it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from pinna.audio.aec import EchoState
from pinna.errors import EchoCancellerError
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from livekit.rtc import AudioFrame
    from livekit.rtc.apm import AudioProcessingModule

_BLOCK: Final = SAMPLE_RATE // 100  # WebRTC works in blocks of 10 ms


class WebRtc:
    """Raises EchoCancellerError when `livekit` is not installed or its library does not load."""

    state = EchoState(engine="webrtc")

    def __init__(self) -> None:
        try:
            from livekit.rtc import AudioFrame  # noqa: PLC0415  optional
            from livekit.rtc.apm import AudioProcessingModule  # noqa: PLC0415  optional
        except (ImportError, OSError) as error:
            raise EchoCancellerError(
                f"the echo canceller `webrtc` needs the package livekit ({error})",
                hint="Install it: `pip install 'pinna[webrtc]'`, or set `echo.engine` to \"speexdsp\"",
                permanent=True,
            ) from error
        self._frame_type: type[AudioFrame] = AudioFrame
        self._make: type[AudioProcessingModule] = AudioProcessingModule
        self._apm: AudioProcessingModule | None = self._fresh()

    def _fresh(self) -> AudioProcessingModule:
        try:
            return self._make(echo_cancellation=True)
        except Exception as error:
            raise EchoCancellerError(
                f"WebRTC's audio processing does not start ({error})",
                hint='Set `echo.engine` to "speexdsp"',
            ) from error

    def process(self, near: Samples, far: Samples) -> Samples:
        if self._apm is None:
            raise ValueError("the echo canceller is closed")
        for name, block in (("near", near), ("far", far)):
            if block.shape != (FRAME_SAMPLES,) or block.dtype != np.int16:
                raise ValueError(f"{name}: want int16 of shape ({FRAME_SAMPLES},)")
        out = np.empty(FRAME_SAMPLES, np.int16)
        for start in range(0, FRAME_SAMPLES, _BLOCK):
            part = slice(start, start + _BLOCK)
            self._apm.process_reverse_stream(self._block(far[part]))
            captured = self._block(near[part])
            self._apm.process_stream(captured)
            out[part] = np.frombuffer(captured.data, np.int16)
        return out

    def _block(self, samples: Samples) -> AudioFrame:
        return self._frame_type(bytearray(samples.tobytes()), SAMPLE_RATE, 1, _BLOCK)

    def discontinuity(self) -> None:
        """AEC3 finds the new delay by itself, faster than a fresh one would."""

    def close(self) -> None:
        self._apm = None
