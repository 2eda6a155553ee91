"""Between our rate and others': soxr, an extra."""

from __future__ import annotations

from typing import Any

from pinna.errors import ConfigError
from pinna.frame import Samples

QUALITY = "MQ"
"""In blocks of the library's choosing: 48 to 16 kHz is late by 6 to 38 ms. It costs 6 µs a frame on a PC."""

STEADY = "HQ"
"""A filter for rates that change, which takes sample by sample: always late by 12.5 ms, and costs 56 µs."""


class Resampler:
    """A stream of mono int16: pieces of any length in, what is ready out. Raises ConfigError without soxr.

    `steady`: the same delay at any time, shorter than the usual one at the median. Costs more.
    """

    def __init__(self, rate_in: int, rate_out: int, *, steady: bool = False) -> None:
        try:
            import soxr  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise ConfigError(
                "sample rates other than 48 kHz need the package `soxr`, which cannot be loaded",
                hint="Install it: pip install 'pinna[voice]'",
                permanent=True,
            ) from error
        self._stream: Any = soxr.ResampleStream(
            rate_in, rate_out, 1, dtype="int16", quality=STEADY if steady else QUALITY, vr=steady
        )

    def process(self, piece: Samples) -> Samples:
        out: Samples = self._stream.resample_chunk(piece)
        return out
