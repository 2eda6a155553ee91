"""The media halves on aiortc's own objects, without a network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import aiortc
import aiortc.jitterbuffer
import av
import numpy as np
import pytest
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket, RtpPacket

from pinna.errors import PinnaError
from pinna.frame import FRAME_SAMPLES
from pinna.links.media import Receiver, shorten
from pinna.links.opus import Encoder


def tone(samples: int, hertz: float = 440.0) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(samples) / 48_000)).astype(np.int16)


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 48_000 / len(samples))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def receiver(clock: Callable[[], float] = time.monotonic) -> Iterator[tuple[Receiver, aiortc.RTCRtpReceiver]]:
    async def make() -> tuple[Receiver, aiortc.RTCRtpReceiver]:
        connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        inner = connection.addTransceiver("audio").receiver
        await connection.close()
        return Receiver(inner, clock), inner

    yield asyncio.run(make())


def rtp(sequence: int, timestamp: int, payload: bytes, ssrc: int = 1) -> RtpPacket:
    packet = RtpPacket(payload_type=96, sequence_number=sequence, timestamp=timestamp)
    packet.ssrc, packet.payload = ssrc, payload
    return packet


def foreign_packets(duration_ms: float, layout: str, seconds: float = 2.0) -> list[bytes]:
    """A tone as another encoder sends it."""
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = 48_000, layout, "s16"
    codec.time_base = Fraction(1, 48_000)
    codec.options = {"frame_duration": f"{duration_ms:g}", "application": "audio"}
    codec.open()
    channels = 2 if layout == "stereo" else 1
    sound = np.repeat(tone(int(seconds * 48_000)), channels)
    size = int(duration_ms * 48)
    packets = []
    for at in range(0, len(sound) // channels - size + 1, size):
        block = sound[at * channels : (at + size) * channels].reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 48_000, at
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("duration_ms", [2.5, 5, 10, 20, 40, 60])
def test_foreign_packets_come_out_as_mono_frames(duration_ms, layout):
    packets = foreign_packets(duration_ms, layout)
    size = int(duration_ms * 48)
    heard = []
    clock = Clock()
    with receiver(clock) as (ours, _):
        sent = 0
        for tick in range(98):
            while (sent + 1) * size <= tick * FRAME_SAMPLES and sent < len(packets):
                ours.add(rtp(sent, sent * size, packets[sent]))
                sent += 1
            clock.now += 0.02
            frame = ours.frame(clock.now)
            if frame is not None:
                assert frame.shape == (FRAME_SAMPLES,)
                heard.append(frame)
        assert ours.stats.lost == 0
        assert ours.undecodable == 0
    assert abs(pitch(np.concatenate(heard[10:])) - 440) < 2, "neither twice as long nor twice as fast"
    assert len(heard) > 85


def test_what_is_not_opus_is_concealed_and_counted():
    with receiver() as (ours, _):
        for n in range(10):
            ours.add(rtp(n, n * 960, b"\xff\xff\xff"))
        start = time.monotonic() + 0.1
        frames = [ours.frame(start + n * 0.02) for n in range(10)]
        assert all(frame is not None for frame in frames[:9])
        assert ours.undecodable >= 9


def test_padding_is_no_sound():
    encoder = Encoder()
    with receiver() as (ours, _):
        for n in range(10):
            ours.add(rtp(n, n * 960, b"" if n == 4 else encoder.encode(tone(960))))
        start = time.monotonic() + 0.1
        assert sum(ours.frame(start + n * 0.02) is not None for n in range(9)) == 9
        assert ours.stats.lost == 0


def test_another_source_is_another_stream():
    encoder = Encoder()
    with receiver() as (ours, _):
        for n in range(5):
            ours.add(rtp(n, n * 960, encoder.encode(tone(960))))
        start = time.monotonic() + 0.05
        for n in range(5):
            assert ours.frame(start + n * 0.02) is not None
        for n in range(5):
            ours.add(rtp(40_000 + n, n, encoder.encode(tone(960)), ssrc=2))
        assert ours.frame(time.monotonic() + 0.1) is not None
        assert ours.stats.lost == 0


def test_latency_is_told_from_the_senders_report():
    encoder = Encoder()
    with receiver() as (ours, inner):
        captured_at = time.time() - 0.070  # the sample at RTP time 960 * 5
        ntp = int((captured_at + 2_208_988_800) * 2**32)
        info = RtcpSenderInfo(ntp_timestamp=ntp, rtp_timestamp=960 * 5, packet_count=1, octet_count=1)
        asyncio.run(inner._handle_rtcp_packet(RtcpSrPacket(ssrc=1, sender_info=info)))
        assert ours.latency_ms is None
        for n in range(5, 8):
            ours.add(rtp(n, n * 960, encoder.encode(tone(960))))
        now = time.monotonic()
        assert ours.frame(now + 0.05) is not None
        assert ours.latency_ms == pytest.approx(120, abs=20)


def test_a_changed_aiortc_is_named():
    class Changed:
        pass

    class Different:
        _RTCRtpReceiver__jitter_buffer = object()

    for thing in (Changed(), Different()):
        with pytest.raises(PinnaError, match=r"aiortc .* has changed inside") as caught:
            Receiver(thing)
        assert caught.value.permanent


def test_shortening_keeps_the_pitch_and_leaves_no_click():
    for hertz in (110, 220, 450):
        sound = tone(960 * 4, hertz)
        parts = [shorten(part) for part in sound.reshape(4, 960)]
        lengths = {len(part) for part in parts}
        assert all(960 - 480 <= length <= 960 - 120 for length in lengths)
        joined = np.concatenate(parts)
        steepest = np.max(np.abs(np.diff(sound.astype(int))))
        assert np.max(np.abs(np.diff(joined.astype(int)))) < 3 * steepest + 50


def test_shortening_leaves_short_blocks_alone():
    assert len(shorten(tone(480))) == 480
