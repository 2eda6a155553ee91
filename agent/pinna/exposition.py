"""What becomes of the metrics outside: a JSON body, a log line, OpenMetrics text."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from pinna.metrics import Metric, Registry

OPENMETRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST

# The hub's own client answers /health with exactly these, and its log line has the short names.
_LINE_COUNTERS = {
    "mic_sent": "mic_frames_sent",
    "mic_dropped": "mic_frames_dropped",
    "tts_received": "tts_frames_received",
    "tts_played": "tts_frames_played",
}
HEALTH_KEYS = (
    "connected",
    "uptime_seconds",
    *_LINE_COUNTERS.values(),
    "mic_queue_depth",
    "speaker_queue_depth",
    "audio_callback_duration_ms",
    "connections",
    "connection_failures",
)


def health_keys(metrics: Iterable[Metric]) -> dict[str, bool | int | float]:
    """The hub client's eleven keys, all of them, in its order: absent ones are 0 (nothing happened yet).

    `connected` is a bool, `audio_callback_duration_ms` a float (of the last callback), the others ints.
    """
    totals = _totals(metrics)
    body: dict[str, bool | int | float] = {key: int(totals.get(key, 0)) for key in HEALTH_KEYS}
    body["connected"] = bool(totals.get("connected", 0))
    body["audio_callback_duration_ms"] = round(totals.get("audio_callback_duration_ms", 0.0), 2)
    return body


class LogLine:
    """The hub client's line of every ten seconds, in its words; its counters count since the line before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` in seconds; the first line counts from here."""
        self._clock = clock
        self._at = clock()
        self._before: dict[str, float] = {}

    def __call__(self, metrics: Iterable[Metric]) -> tuple[str, dict[str, float]]:
        """The line, and the fields that go with it in the same event: per-second rates over the same time."""
        now, totals = self._clock(), _totals(metrics)
        grown = {
            short: totals.get(key, 0.0) - self._before.get(key, 0.0) for short, key in _LINE_COUNTERS.items()
        }
        seconds = max(now - self._at, 1e-3)
        self._at, self._before = now, totals
        words = [f"{short}={grown[short]:.0f}" for short in _LINE_COUNTERS]
        words += [
            f"mic_q={totals.get('mic_queue_depth', 0):.0f}",
            f"spk_q={totals.get('speaker_queue_depth', 0):.0f}",
            f"cb_ms={totals.get('audio_callback_duration_ms', 0):.1f}",
            f"connected={'true' if totals.get('connected') else 'false'}",
        ]
        rates = {f"{short}_per_second": round(count / seconds, 1) for short, count in grown.items()}
        return "metrics | " + " ".join(words), rates


def openmetrics(registry: Registry) -> Callable[[], bytes]:
    """A callable that renders the registry as OpenMetrics text, to go out as OPENMETRICS_CONTENT_TYPE.

    Base units, as the format asks: milliseconds leave as seconds.
    """
    prometheus = CollectorRegistry(auto_describe=False)
    prometheus.register(_Collector(registry))

    def render() -> bytes:
        return bytes(generate_latest(prometheus))  # type: ignore[no-untyped-call]  # the library's gap

    return render


class _Collector(Collector):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Family]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric in self._registry.collect():
            name, unit, value = f"pinna_{metric.key}", metric.unit, metric.value
            if unit == "ms":
                name, unit, value = f"{name.removesuffix('_ms')}_seconds", "seconds", value / 1000
            labels = sorted(metric.labels)
            if name not in families:
                make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                families[name] = make(name, metric.help, labels=labels, unit=unit)
            families[name].add_metric([metric.labels[label] for label in labels], value)
        return families.values()


def _totals(metrics: Iterable[Metric]) -> dict[str, float]:
    """Key -> value, summed over labels (two links: one number of frames sent)."""
    totals: dict[str, float] = {}
    for metric in metrics:
        totals[metric.key] = totals.get(metric.key, 0) + metric.value
    return totals
