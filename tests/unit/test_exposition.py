from __future__ import annotations

import json

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.support.clock import ManualClock

from pinna.exposition import OPENMETRICS_CONTENT_TYPE, LogLine, health_keys, openmetrics
from pinna.metrics import Metric, Registry


def readings(sent: int = 0, **more: float) -> list[Metric]:
    return [
        Metric("mic_frames_sent", "counter", sent, "Frames sent to the hub."),
        *(Metric(name, "gauge", value, name) for name, value in more.items()),
    ]


class TestHealthKeys:
    def test_are_the_hub_clients_eleven_in_its_order(self) -> None:
        assert list(health_keys([])) == [
            "connected",
            "uptime_seconds",
            "mic_frames_sent",
            "mic_frames_dropped",
            "tts_frames_received",
            "tts_frames_played",
            "mic_queue_depth",
            "speaker_queue_depth",
            "audio_callback_duration_ms",
            "connections",
            "connection_failures",
        ]

    def test_have_the_types_it_gives_them(self) -> None:
        duration = Metric("audio_callback_duration", "gauge", 0.4321, "", "ms")
        body = health_keys(
            [*readings(124_000, connected=1, uptime_seconds=3421.7, connections=3.0), duration]
        )
        assert json.loads(json.dumps(body)) == {
            "connected": True,
            "uptime_seconds": 3421,
            "mic_frames_sent": 124_000,
            "mic_frames_dropped": 0,
            "tts_frames_received": 0,
            "tts_frames_played": 0,
            "mic_queue_depth": 0,
            "speaker_queue_depth": 0,
            "audio_callback_duration_ms": 0.43,
            "connections": 3,
            "connection_failures": 0,
        }
        assert body["connected"] is True
        assert health_keys([])["connected"] is False
        floats = {key for key, value in body.items() if isinstance(value, float)}
        assert floats == {"audio_callback_duration_ms"}

    def test_labelled_readings_add_up(self) -> None:
        two = [Metric("connections", "counter", n, "", labels={"link": str(n)}) for n in (2, 3)]
        assert health_keys(two)["connections"] == 5


class TestLogLine:
    def test_counts_since_the_line_before_and_carries_rates(self) -> None:
        clock = ManualClock()
        line = LogLine(clock)
        clock.advance(10)
        text, rates = line(readings(500, connected=1, mic_queue_depth=1, speaker_queue_depth=3))
        assert text == (
            "metrics | mic_sent=500 mic_dropped=0 tts_received=0 tts_played=0 "
            "mic_q=1 spk_q=3 cb_ms=0.0 connected=true"
        )
        assert rates == {
            "mic_sent_per_second": 50.0,
            "mic_dropped_per_second": 0.0,
            "tts_received_per_second": 0.0,
            "tts_played_per_second": 0.0,
        }
        clock.advance(20)
        text, rates = line(readings(600, audio_callback_duration_ms=0.44))
        assert text.startswith("metrics | mic_sent=100 ")
        assert text.endswith("cb_ms=0.4 connected=false")
        assert rates["mic_sent_per_second"] == 5.0

    def test_two_lines_at_the_same_time_do_not_divide_by_nothing(self) -> None:
        line = LogLine(ManualClock())
        line(readings(1))
        assert line(readings(1))[1]["mic_sent_per_second"] == 0


class TestOpenMetrics:
    def test_can_be_read_back(self) -> None:
        registry = Registry()
        registry.add(
            lambda: [
                *readings(7),
                Metric("audio_callback_duration", "gauge", 0.5, "Of the last one.", "ms"),
                Metric("uptime_seconds", "gauge", 1.5, "Since start.", "seconds"),
                Metric("frames_dropped", "counter", 1, "Lost.", labels={"who": "link"}),
                Metric("frames_dropped", "counter", 2, "Lost.", labels={"who": 'a "b"\n\\'}),
            ]
        )
        text = openmetrics(registry)().decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families.keys() == {
            "pinna_mic_frames_sent",
            "pinna_audio_callback_duration_seconds",
            "pinna_uptime_seconds",
            "pinna_frames_dropped",
        }
        sent = families["pinna_mic_frames_sent"]
        assert (sent.type, sent.documentation) == ("counter", "Frames sent to the hub.")
        assert [(sample.name, sample.value) for sample in sent.samples] == [
            ("pinna_mic_frames_sent_total", 7.0)
        ]
        duration = families["pinna_audio_callback_duration_seconds"]
        assert (duration.type, duration.unit, duration.samples[0].value) == ("gauge", "seconds", 0.0005)
        dropped = {sample.labels["who"]: sample.value for sample in families["pinna_frames_dropped"].samples}
        assert dropped == {"link": 1, 'a "b"\n\\': 2}
        assert text.endswith("# EOF\n")
        assert OPENMETRICS_CONTENT_TYPE.startswith("application/openmetrics-text")

    def test_nothing_to_tell_is_valid_too(self) -> None:
        assert openmetrics(Registry())() == b"# EOF\n"
