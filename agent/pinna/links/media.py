"""The receiving half of a WebRTC link, for both ends, and what both halves need of aiortc's connections.

aiortc 1.16's jitter buffer does not serve speech: it is 80 ms deep at best, 285 ms for good after the first
lost packet, and at 5 % loss drops 28 % of the frames. It is exchanged for ours; RTCP statistics and codec
check stay aiortc's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import aiortc
import aiortc.jitterbuffer
import numpy as np
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket, RtpPacket

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples
from pinna.links.inside import changed, inside
from pinna.links.jitter import Action, JitterBuffer, JitterStats, Packet
from pinna.links.opus import Decoder, has_fec, packet_samples
from pinna.links.sender import NTP_EPOCH

_EMPTY: Final[Samples] = np.zeros(0, np.int16)


def opus_only(transceiver: aiortc.RTCRtpTransceiver) -> None:
    """Negotiate nothing but Opus; to be called before the offer or answer is made."""
    capabilities = aiortc.RTCRtpReceiver.getCapabilities("audio")
    assert capabilities is not None
    transceiver.setCodecPreferences(
        [codec for codec in capabilities.codecs if codec.mimeType.lower() == "audio/opus"]
    )


class Receiver:
    """What arrives on an aiortc receiver, as frames. To be made before the connection is up.

    Whoever owns the clock calls `frame` once per 20 ms. Event loop only.
    """

    def __init__(self, receiver: aiortc.RTCRtpReceiver, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buffer = JitterBuffer()
        self._decoder = Decoder()
        self._pending = _EMPTY  # decoded, not yet handed out
        self._ssrc: int | None = None
        self._report: tuple[float, int] | None = None  # Unix time and RTP time of the same instant
        self.undecodable = 0
        self.latency_ms: float | None = None
        """From capture (by the sender's reports and clock) to being handed out, of the latest frame."""

        if not isinstance(
            inside(receiver, "_RTCRtpReceiver__jitter_buffer"), aiortc.jitterbuffer.JitterBuffer
        ):
            raise changed("RTCRtpReceiver.__jitter_buffer")
        receiver._RTCRtpReceiver__jitter_buffer = self  # type: ignore[attr-defined]

        handle = inside(receiver, "_handle_rtcp_packet")

        async def handle_rtcp_packet(packet: AnyRtcpPacket) -> None:
            if isinstance(packet, RtcpSrPacket):
                info = packet.sender_info
                self._report = (info.ntp_timestamp / 2**32 - NTP_EPOCH, info.rtp_timestamp)
            await handle(packet)

        receiver._handle_rtcp_packet = handle_rtcp_packet  # type: ignore[method-assign]

    @property
    def stats(self) -> JitterStats:
        return self._buffer.stats

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """In the place of aiortc's JitterBuffer.add: keep the packet, and have no frame to decode."""
        if packet.ssrc != self._ssrc:
            self._ssrc = packet.ssrc
            self._buffer.restart()
        payload = packet.payload
        duration = packet_samples(payload) or (FRAME_SAMPLES if payload else 0)
        self._buffer.put(
            Packet(packet.sequence_number, packet.timestamp, payload, duration, has_fec(payload)),
            self._clock(),
        )
        return False, None

    def frame(self, now: float) -> Samples | None:
        """What is to be heard at `now` (of `clock`), shape (960,); None while nothing is being said."""
        while len(self._pending) < FRAME_SAMPLES:
            samples = self._next(now + len(self._pending) / SAMPLE_RATE)
            if samples is None:
                if not len(self._pending):
                    return None
                samples = np.zeros(FRAME_SAMPLES - len(self._pending), np.int16)
            self._pending = np.concatenate((self._pending, samples)) if len(self._pending) else samples
        frame, self._pending = self._pending[:FRAME_SAMPLES], self._pending[FRAME_SAMPLES:]
        return frame

    def _next(self, now: float) -> Samples | None:
        decision = self._buffer.get(now)
        if decision.action is Action.NOTHING:
            return None
        if decision.timestamp is not None and self._report is not None:
            sent_at, timestamp = self._report
            ahead = (decision.timestamp - timestamp + 2**31) % 2**32 - 2**31
            unix_now = time.time() - self._clock() + now
            self.latency_ms = (unix_now - sent_at - ahead / SAMPLE_RATE) * 1000
        try:
            if decision.action is Action.PLAY:
                if not decision.duration:  # padding only
                    return _EMPTY
                samples = self._decoder.decode(decision.payload)
                return shorten(samples) if decision.hurry else samples
            if decision.action is Action.RECOVER:
                return self._decoder.decode(decision.payload, fec=True, samples=decision.duration)
        except ValueError:
            self.undecodable += 1
        return self._decoder.decode(None, samples=decision.duration or FRAME_SAMPLES)


async def close(connection: aiortc.RTCPeerConnection) -> None:
    """Close it for good, at whatever moment.

    aiortc goes on connecting while it closes. Closed amid its connectivity checks, its ICE transport
    finishes them nevertheless, and leaves a task that asks for the peer's consent for ever; its state tells
    when: it is no longer `closed`. And a DTLS handshake that ends after sender and receiver were stopped
    starts them.
    """
    transceivers = connection.getTransceivers()
    checking = {
        ice for each in transceivers if (ice := each.receiver.transport.transport).state == "checking"
    }
    await connection.close()
    for ice in checking:
        while ice.state == "closed":  # noqa: ASYNC110 -- it has dropped its listeners by now
            await asyncio.sleep(0.005)
        await ice.stop()
    for each in transceivers:
        while each.receiver.transport.state == "connecting":  # noqa: ASYNC110 -- as above; its ICE is closed
            await asyncio.sleep(0.005)
        await each.stop()


def shorten(samples: Samples) -> Samples:
    """The same sound with one pitch period left out, 2.5 to 10 ms (WSOLA); unchanged if under 20 ms.

    The cut is where the sound most resembles itself, cross-faded over 5 ms. Shape (n,) -> (n - lag,).
    """
    if len(samples) < FRAME_SAMPLES:
        return samples
    shortest, longest, fade, step = 120, 480, 240, 4
    coarse = samples[: fade * 2 + longest : step].astype(np.float64)
    template = coarse[: fade * 2 // step]
    lags = np.arange(shortest // step, longest // step)
    windows = np.lib.stride_tricks.sliding_window_view(coarse, len(template))[lags]
    likeness = windows @ template / np.sqrt(np.einsum("ij,ij->i", windows, windows) + 1.0)
    lag = int(lags[np.argmax(likeness)]) * step
    rise = np.linspace(0.0, 1.0, fade)
    seam = samples[:fade] * (1.0 - rise) + samples[lag : lag + fade] * rise
    return np.concatenate((np.rint(seam).astype(np.int16), samples[lag + fade :]))
