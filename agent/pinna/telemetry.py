"""What the parts of the agent know of themselves, as metrics and as the body of /health."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinna.audio.engine import AudioEngine
from pinna.audio.playback import PlaybackQueue
from pinna.flow.fanout import Subscription
from pinna.frame import FRAME_MS
from pinna.links import Link
from pinna.metrics import Metric, Source
from pinna.session.button import Button
from pinna.session.gate import Gate
from pinna.session.sessions import Sessions
from pinna.session.states import State

if TYPE_CHECKING:
    from pinna.session.wakeword import WakeWord


def of_process() -> Source:
    started = time.monotonic()

    def read() -> Iterator[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield Metric("uptime", "gauge", time.monotonic() - started, "Since the agent started", "seconds")
        yield Metric("cpu", "counter", usage.ru_utime + usage.ru_stime, "Processor time used", "seconds")
        yield Metric("resident_memory", "gauge", resident_bytes(), "Memory in use", "bytes")
        yield Metric(
            "open_files", "gauge", len(list(Path("/proc/self/fd").iterdir())), "Open file descriptors"
        )

    return read


def resident_bytes(pid: str = "self") -> int:
    """Resident set size of a process, from /proc."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def of_audio(audio: AudioEngine, playback: PlaybackQueue) -> Source:
    def read() -> Iterator[Metric]:
        capture, dsp, queue = audio.capture, audio.dsp, playback.stats
        yield Metric("mic_frames_captured", "counter", capture.frames, "Frames from the microphone")
        yield Metric("aec_frames_processed", "counter", dsp.frames, "Frames through the echo canceller")
        yield Metric("tts_frames_played", "counter", capture.played, "Frames given to the loudspeaker")
        yield Metric(
            "tts_frames_dropped", "counter", queue.dropped, "Frames the playback queue had no room for"
        )
        yield Metric("tts_frames_trimmed", "counter", queue.trimmed, "Frames given up to win back latency")
        yield Metric(
            "speaker_queue_depth", "gauge", playback.queued_ms // FRAME_MS, "Frames waiting to be played"
        )
        yield Metric("audio_callback_duration", "gauge", capture.last_ms, "The latest callback", "ms")
        if (p99 := capture.duration_ms.p99) is not None:
            yield Metric(
                "audio_callback_duration_p99", "gauge", p99, "99th percentile of 512 callbacks", "ms"
            )
        if (p99 := dsp.duration_ms.p99) is not None:
            yield Metric(
                "dsp_duration_p99", "gauge", p99, "99th percentile of 512 frames in the DSP thread", "ms"
            )
        yield Metric("audio_callback_overruns", "counter", capture.overruns, "Callbacks longer than a frame")
        yield Metric("audio_callback_errors", "counter", capture.errors, "Exceptions inside the callback")
        yield Metric("audio_input_overflows", "counter", capture.overflows, "Input lost before the callback")
        yield Metric("audio_output_underflows", "counter", capture.underflows, "The loudspeaker ran dry")
        yield Metric("audio_ring_drops", "counter", capture.ring_full, "Frames lost to a late DSP thread")
        yield Metric(
            "audio_bridge_drops", "counter", audio.bridge_dropped, "Frames lost to a late event loop"
        )
        yield Metric("audio_behind", "gauge", dsp.behind_ms, "How late the microphone is read", "ms")
        yield Metric("audio_discontinuities", "counter", dsp.discontinuities, "Breaks in the capture stream")
        yield Metric("audio_streams_opened", "counter", audio.streams, "Streams opened; more: lost, or late")
        yield Metric("microphone_level", "gauge", dsp.microphone_dbfs, "RMS of the latest frame", "dbfs")
        yield Metric("speaker_level", "gauge", dsp.speaker_dbfs, "RMS of the latest frame", "dbfs")
        yield Metric("clean_level", "gauge", dsp.clean_dbfs, "RMS after the echo canceller", "dbfs")

    return read


def of_echo(audio: AudioEngine) -> Source:
    def read() -> Iterator[Metric]:
        state = audio.echo
        yield Metric("aec_running", "gauge", state is not None, "1 once the echo canceller has started")
        if state is None:
            return
        labels = {"engine": state.engine}
        yield Metric("aec_converged", "gauge", state.converged, "1: echo is being removed", labels=labels)
        if state.delay_ms is not None:
            yield Metric("aec_delay", "gauge", state.delay_ms, "From far end to its echo", "ms", labels)
        if state.drift_ppm is not None:
            yield Metric(
                "aec_drift", "gauge", state.drift_ppm, "Loudspeaker clock against microphone", "ppm", labels
            )
        if state.erle_db is not None:
            yield Metric("aec_erle", "gauge", state.erle_db, "Echo return loss enhancement", "db", labels)

    return read


def of_session(sessions: Sessions, gate: Gate) -> Source:
    def read() -> Iterator[Metric]:
        for state in State:
            labels = {"state": state.value}
            yield Metric(
                "session_state", "gauge", sessions.state is state, "1: the present one", labels=labels
            )
        for by, count in sorted(sessions.opened.items()):
            yield Metric("sessions_opened", "counter", count, "Sessions begun", labels={"by": by})
        yield Metric("gate_frames_passed", "counter", gate.passed, "Frames let out of the device")
        yield Metric("gate_frames_held", "counter", gate.held, "Frames that stayed in the device")

    return read


def of_wake_word(wake_word: WakeWord) -> Source:
    def read() -> Iterator[Metric]:
        for word, count in sorted(wake_word.heard.items()):
            yield Metric("wake_words_heard", "counter", count, "Wake words", labels={"word": word})
        if (p99 := wake_word.duration_ms.p99) is not None:
            yield Metric("wake_word_duration_p99", "gauge", p99, "Of inference on a tenth of a second", "ms")

    return read


def of_button(button: Button) -> Source:
    def read() -> Iterator[Metric]:
        for press, count in sorted(button.presses.items()):
            yield Metric("button_presses", "counter", count, "Presses", labels={"press": press.value})

    return read


def of_link(link: Link, microphone: Subscription) -> Source:
    def read() -> Iterator[Metric]:
        stats = link.stats
        yield Metric("connected", "gauge", stats.connected, "1 while media can flow")
        yield Metric("connections", "counter", stats.connections, "Sessions that came to carry media")
        yield Metric("connection_failures", "counter", stats.connection_failures, "Attempts that did not")
        yield Metric("mic_frames_sent", "counter", stats.frames_sent, "Frames handed to the network")
        yield Metric(
            "mic_frames_dropped", "counter", microphone.dropped, "Frames that waited too long to be sent"
        )
        yield Metric("mic_queue_depth", "gauge", len(microphone), "Frames waiting to be sent")
        yield Metric("tts_frames_received", "counter", stats.frames_received, "Packets of far speech")
        yield Metric(
            "tts_frames_concealed", "counter", stats.frames_concealed, "Lost and bridged by the decoder"
        )
        yield Metric(
            "tts_frames_recovered", "counter", stats.frames_recovered, "Lost and had from the FEC copy"
        )
        yield Metric("tts_packets_lost", "counter", stats.packets_lost, "Packets that never came")
        for name, value, text in (
            ("jitter", stats.jitter_ms, "Of the arrival of far speech"),
            ("playout_delay", stats.playout_delay_ms, "Target of the jitter buffer"),
            ("round_trip", stats.rtt_ms, "To the hub and back, by RTCP"),
            ("send_delay_p50", stats.send_delay_p50_ms, "From captured to ready to send"),
            ("send_delay_p99", stats.send_delay_p99_ms, "From captured to ready to send"),
        ):
            if value is not None:
                yield Metric(name, "gauge", value, text, "ms")

    return read


def session_body(sessions: Sessions, gate: Gate) -> dict[str, Any]:
    return {**sessions.as_dict(), "frames_passed": gate.passed, "frames_held": gate.held}


def echo_body(engine: str, audio: AudioEngine) -> dict[str, Any]:
    state = audio.echo
    return {"engine": engine, "running": state is not None, **(asdict(state) if state else {})}


def audio_body(audio: AudioEngine, playback: PlaybackQueue) -> dict[str, Any]:
    capture, dsp = audio.capture, audio.dsp
    return {
        "format": asdict(audio.format) if audio.format else None,
        "streams_opened": audio.streams,
        "frames_captured": capture.frames,
        "callback_ms_p99": _round(capture.duration_ms.p99),
        "callback_overruns": capture.overruns,
        "input_overflows": capture.overflows,
        "output_underflows": capture.underflows,
        "dsp_ms_p50": _round(dsp.duration_ms.p50),
        "dsp_ms_p99": _round(dsp.duration_ms.p99),
        "behind_ms": _round(dsp.behind_ms),
        "discontinuities": dsp.discontinuities,
        "microphone_dbfs": _round(dsp.microphone_dbfs),
        "speaker_dbfs": _round(dsp.speaker_dbfs),
        "clean_dbfs": _round(dsp.clean_dbfs),
        "tts_dropped": playback.stats.dropped,
        "tts_trimmed": playback.stats.trimmed,
    }


def link_body(link: Link) -> dict[str, Any]:
    return {
        key: _round(value) if isinstance(value, float) else value
        for key, value in asdict(link.stats).items()
        if key not in ("connected", "connections", "connection_failures")  # among the eleven keys
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
