from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pinna.metrics import Metric, Registry, Window


class TestMetric:
    @pytest.mark.parametrize(
        ("name", "unit", "key"),
        [
            ("mic_frames_sent", "", "mic_frames_sent"),
            ("audio_callback_duration", "ms", "audio_callback_duration_ms"),
            ("uptime_seconds", "seconds", "uptime_seconds"),
        ],
    )
    def test_the_key_has_the_unit_once(self, name: str, unit: str, key: str) -> None:
        assert Metric(name, "gauge", 1, "Help", unit).key == key


class TestRegistry:
    def test_collects_in_the_order_of_the_sources(self) -> None:
        registry = Registry()
        registry.add(lambda: [Metric("b", "gauge", 1, ""), Metric("a", "gauge", 2, "")])
        registry.add(lambda: [Metric("c", "gauge", 3, "")])
        assert [(metric.name, metric.value) for metric in registry.collect()] == [
            ("b", 1),
            ("a", 2),
            ("c", 3),
        ]

    def test_reads_anew_each_time(self) -> None:
        count = 0

        def source() -> Iterator[Metric]:
            yield Metric("frames", "counter", count, "")

        registry = Registry()
        registry.add(source)
        assert registry.collect()[0].value == 0
        count = 7
        assert registry.collect()[0].value == 7

    def test_of_equal_readings_the_last_counts_and_labels_tell_apart(self) -> None:
        registry = Registry()
        registry.add(lambda: [Metric("a", "gauge", 1, "", labels={"x": "1"}), Metric("a", "gauge", 2, "")])
        registry.add(lambda: [Metric("a", "gauge", 3, "", labels={"x": "1"})])
        assert [metric.value for metric in registry.collect()] == [3, 2]

    def test_a_source_that_raises_is_left_out_and_logged_once(self) -> None:
        def broken() -> Iterator[Metric]:
            yield Metric("before", "gauge", 1, "")
            raise ZeroDivisionError

        registry = Registry()
        registry.add(broken)
        registry.add(lambda: [Metric("sound", "gauge", 2, "")])
        with capture_logs() as logs:
            for _ in range(3):
                assert [metric.name for metric in registry.collect()] == ["before", "sound"]
        assert [(entry["log_level"], entry["event"]) for entry in logs] == [
            ("error", "metrics.source_failed")
        ]


class TestWindow:
    def test_before_the_first_value(self) -> None:
        window = Window()
        assert (window.count, window.last, window.p50, window.p99) == (0, 0.0, None, None)

    @settings(deadline=None, database=None)
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(1, 20), st.floats(0, 1))
    def test_quantiles_are_those_of_the_last_values(self, values: list[float], size: int, q: float) -> None:
        window = Window(size)
        for value in values:
            window.add(value)
        assert window.quantile(q) == pytest.approx(np.quantile(values[-size:], q))
        assert (window.last, window.count) == (values[-1], len(values))

    def test_p50_and_p99(self) -> None:
        window = Window(1000)
        for value in range(101):
            window.add(value)
        assert (window.p50, window.p99) == (50, 99)

    def test_adding_keeps_no_memory(self) -> None:
        """The PortAudio callback adds to it for months."""
        window = Window(64)
        window.add(1.0)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(10_000):
                window.add(0.25)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 1024
