"""The two media halves of a WebRTC link, for both ends: our packets into aiortc, aiortc's packets to us.

aiortc 1.16's own halves do not serve speech on a small machine. Sending, it upmixes to stereo, encodes at
complexity 10 in another thread and sums 960 squares in Python for each frame: six times the work. Receiving,
its jitter buffer is 80 ms deep at best, 285 ms for good after the first lost packet, and at 5 % loss drops
28 % of the frames. So packets are encoded here (`PacketTrack`) and aiortc's buffer is exchanged for ours
(`Receiver`).

All that is touched of aiortc's inside is touched in this file, checked when a connection is made, and named
in the error if it has changed: `RTCRtpReceiver.__jitter_buffer` (exchanged: RTCP statistics, codec check and
retransmission stay aiortc's), `RTCRtpReceiver._handle_rtcp_packet` and `RTCRtpSender._send_rtcp` (wrapped).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import aiortc
import aiortc.jitterbuffer
import av
import numpy as np
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket, RtpPacket

from pinna.errors import PinnaError
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Frame, Samples
from pinna.links.jitter import Action, JitterBuffer, JitterStats, Packet
from pinna.links.opus import Decoder, Encoder, has_fec, packet_samples

_TIME_BASE: Final = Fraction(1, SAMPLE_RATE)
_NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970 (Unix)."""

_EMPTY: Final[Samples] = np.zeros(0, np.int16)


def opus_only(transceiver: aiortc.RTCRtpTransceiver) -> None:
    """Negotiate nothing but Opus; to be called before the offer or answer is made."""
    capabilities = aiortc.RTCRtpReceiver.getCapabilities("audio")
    assert capabilities is not None
    transceiver.setCodecPreferences(
        [codec for codec in capabilities.codecs if codec.mimeType.lower() == "audio/opus"]
    )


class PacketTrack(aiortc.MediaStreamTrack):
    """A track of Opus packets made from the frames of `source`, an awaitable call for the next frame.

    The RTP time follows `Frame.sequence`, so a gap stays a gap. The track ends when `source` raises
    StopAsyncIteration. Pacing is the source's: a packet leaves as soon as its frame is there.
    """

    kind = "audio"

    def __init__(self, source: Callable[[], Awaitable[Frame]], encoder: Encoder) -> None:
        super().__init__()
        self._source = source
        self._encoder = encoder
        self._pts = 0
        self._last_sequence: int | None = None
        self.failure: Exception | None = None
        """Why the track has ended, if by itself: aiortc only logs it."""
        self.sent = 0
        """Frames handed to RTP: the sender asks for another one when the last is out."""
        self.send_delays: deque[float] = deque(maxlen=500)
        """Seconds from captured to ready to send, of the latest 10 s."""
        self.lag = 0.0
        """Seconds from the capture of the latest packet's first sample to its sending."""

    async def recv(self) -> av.Packet[Any]:
        if self._last_sequence is not None:
            self.sent += 1
        try:
            return self._pack(await self._source())
        except StopAsyncIteration as error:
            self.failure = error
            self.stop()
            raise MediaStreamError from None
        except Exception as error:
            self.failure = error
            raise

    def _pack(self, frame: Frame) -> av.Packet[Any]:
        if self._last_sequence is not None:
            # A sequence that runs backwards is a capture stream begun anew: just go on.
            self._pts += max(1, frame.sequence - self._last_sequence) * FRAME_SAMPLES
        self._last_sequence = frame.sequence
        packet = av.Packet(self._encoder.encode(frame.samples))
        packet.pts = self._pts
        packet.time_base = _TIME_BASE
        delay = time.monotonic() - frame.captured_at
        self.send_delays.append(delay)
        self.lag = delay + FRAME_SAMPLES / SAMPLE_RATE
        return packet

    def stamp_reports(self, sender: aiortc.RTCRtpSender) -> None:
        """Make the sender's RTCP reports say when frames were captured, not when they were sent.

        RFC 3550 6.4.1 wants a report's NTP and RTP times to name the same instant of the media. aiortc pairs
        the time of sending with the RTP time of the packet sent; moving the RTP time on by what lies between
        makes the pair true, and leaves alone the NTP time, by which round trips are measured.
        """
        send = _inside(sender, "_send_rtcp")

        async def send_rtcp(packets: Sequence[AnyRtcpPacket]) -> None:
            for packet in packets:
                if isinstance(packet, RtcpSrPacket) and packet.sender_info.packet_count:
                    info = packet.sender_info
                    info.rtp_timestamp = (info.rtp_timestamp + round(self.lag * SAMPLE_RATE)) & 0xFFFF_FFFF
            await send(packets)

        sender._send_rtcp = send_rtcp  # type: ignore[method-assign]


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
            _inside(receiver, "_RTCRtpReceiver__jitter_buffer"), aiortc.jitterbuffer.JitterBuffer
        ):
            raise _changed("RTCRtpReceiver.__jitter_buffer")
        receiver._RTCRtpReceiver__jitter_buffer = self  # type: ignore[attr-defined]

        handle = _inside(receiver, "_handle_rtcp_packet")

        async def handle_rtcp_packet(packet: AnyRtcpPacket) -> None:
            if isinstance(packet, RtcpSrPacket):
                info = packet.sender_info
                self._report = (info.ntp_timestamp / 2**32 - _NTP_EPOCH, info.rtp_timestamp)
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


def _inside(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name)
    except AttributeError:
        raise _changed(f"{type(thing).__name__}.{name}") from None


def _changed(what: str) -> PinnaError:
    return PinnaError(
        f"aiortc {aiortc.__version__} has changed inside: {what}",
        hint="Install the version that requirements.lock names",
        permanent=True,
    )
