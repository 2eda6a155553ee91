"""Counters and gauges as data. What becomes of them (log line, JSON, OpenMetrics) is in `exposition`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import structlog

log = structlog.get_logger(__name__)

NO_LABELS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Metric:
    """One reading. `name` in snake case, without the `pinna_` prefix and without `_total`.

    A counter only ever grows while the process lives. `unit` ("ms", "seconds", "bytes", "db", "ppm") is part
    of the name that goes out: "audio_callback_duration" in "ms" is `audio_callback_duration_ms`. What has not
    been measured is left out, never reported as zero.
    """

    name: str
    kind: Literal["counter", "gauge"]
    value: float
    help: str
    unit: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)

    @property
    def key(self) -> str:
        """The name with its unit, once."""
        if not self.unit or self.name.endswith(f"_{self.unit}"):
            return self.name
        return f"{self.name}_{self.unit}"


Source = Callable[[], Iterable[Metric]]


class Registry:
    """The sources of a process. Each part keeps its own numbers and offers one callable that reads them."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._complained: set[Source] = set()

    def add(self, source: Source) -> None:
        self._sources.append(source)

    def collect(self) -> list[Metric]:
        """A reading of everything, in the order of `add`; of equal key and labels the last one counts.

        A source that raises is left out and logged once: a broken gauge must not take health down with it.
        """
        readings: dict[tuple[str, frozenset[tuple[str, str]]], Metric] = {}
        for source in self._sources:
            try:
                for metric in source():
                    readings[metric.key, frozenset(metric.labels.items())] = metric
            except Exception:  # whatever it is, it is that source's alone
                if source not in self._complained:
                    self._complained.add(source)
                    log.exception("metrics.source_failed")
        return list(readings.values())


class Window:
    """The last `size` values of something, for quantiles.

    `add` copies into preallocated memory, so the PortAudio callback may call it: no lock, no allocation.
    Written by one thread; read by any. A reader may see a value of the round before, which a
    quantile does not mind.
    """

    def __init__(self, size: int = 512) -> None:
        self._values = np.zeros(size, np.float64)
        self._size = size
        self.count = 0
        self.last = 0.0

    def add(self, value: float) -> None:
        self._values[self.count % self._size] = value
        self.last = value
        self.count += 1

    def quantile(self, q: float) -> float | None:
        """The q-quantile (0..1) of the values kept, interpolated linearly; None before the first."""
        kept = min(self.count, self._size)
        return float(np.quantile(self._values[:kept], q)) if kept else None

    @property
    def p50(self) -> float | None:
        return self.quantile(0.50)

    @property
    def p99(self) -> float | None:
        return self.quantile(0.99)
