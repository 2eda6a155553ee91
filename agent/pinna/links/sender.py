"""The sending half of a WebRTC link: our frames into Opus, RTP and aiortc's transport.

aiortc 1.16 serves speech badly on a small machine. It upmixes to stereo, encodes at complexity 10 in another
thread and sums 960 squares in Python for each frame; handed ready packets, it still spends half its time on
objects, fractions and calendars for a header in which three numbers change. So both are done here. aiortc's
stay negotiation, ICE, DTLS, SRTP, the schedule of reports, and the life cycle: its sender asks the track for
a frame once media can flow, and is cancelled in the end.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

import aiortc
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpSendParameters
from aiortc.rtp import (
    AnyRtcpPacket,
    HeaderExtensionsMap,
    RtcpRrPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
)

from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Frame
from pinna.links.inside import inside
from pinna.links.opus import Encoder

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970 (Unix)."""

_MARKER: Final = 0x80
_NUMBERS: Final = struct.Struct("!BHL")


class RtpStream:
    """RTP (RFC 3550) of one source: a header in which marker, sequence number and time change, and payload.

    The rest, with the media identification of a bundle (RFC 8843), is as aiortc writes it.
    """

    def __init__(self, parameters: RTCRtpSendParameters) -> None:
        payload_type = parameters.codecs[0].payloadType
        assert parameters.rtcp.ssrc is not None
        assert payload_type is not None
        self.ssrc = parameters.rtcp.ssrc
        # The lower half: a sequence number that wraps amid the first packets' loss breaks SRTP.
        self._sequence = secrets.randbelow(2**15)
        self._origin = secrets.randbits(32)
        extensions = HeaderExtensionsMap()
        extensions.configure(parameters)
        model = RtpPacket(payload_type=payload_type, ssrc=self.ssrc)
        model.extensions.mid = parameters.muxId
        header = model.serialize(extensions)
        self._first, self._payload_type, self._rest = header[:1], payload_type, header[8:]

    def time(self, pts: int) -> int:
        """The RTP time, 32 bits, of sample `pts`."""
        return (self._origin + pts) & 0xFFFF_FFFF

    def packet(self, pts: int, payload: bytes, *, talkspurt: bool) -> bytes:
        """The next packet. `talkspurt`: it begins one (RFC 3551 4.1)."""
        kind = self._payload_type | _MARKER if talkspurt else self._payload_type
        numbers = _NUMBERS.pack(kind, self._sequence, self.time(pts))
        self._sequence = (self._sequence + 1) & 0xFFFF
        return b"".join((self._first, numbers, self._rest, payload))


class Doubling:
    """Whether each packet is worth sending twice, by the fractions lost that the receiver reports.

    Two losses in a row defeat Opus's copy of a frame in the packet after it: 4 % of frames at 20 % loss. A
    receiver that had a packet drops its repetition. While there are any, the fraction reported is that of
    both being lost; so ending it takes far less than beginning.
    """

    BEGINS = 0.10
    ENDS = 0.05**2
    WEIGHT = 0.25  # of a report, about one a second, in their average

    def __init__(self) -> None:
        self.on = False
        self._average = 0.0

    def hear(self, fraction_lost: float) -> None:
        self._average += (fraction_lost - self._average) * self.WEIGHT
        self.on = self._average >= (self.ENDS if self.on else self.BEGINS)


class PacketTrack(aiortc.MediaStreamTrack):
    """A track that sends the frames of `source`, an awaitable call for the next frame, by itself.

    The RTP time follows `Frame.sequence`, so a gap stays a gap. The track ends when `source` raises
    StopAsyncIteration. Pacing is the source's: a packet leaves as soon as its frame is there.
    """

    kind = "audio"

    def __init__(self, source: Callable[[], Awaitable[Frame]], encoder: Encoder) -> None:
        super().__init__()
        self._source = source
        self._encoder = encoder
        self._stream: RtpStream | None = None
        self._send: Callable[[bytes], Awaitable[None]]
        self._pts = 0
        self._last: Frame | None = None
        self._octets = 0
        self._previous: bytes | None = None
        self._doubling = Doubling()
        self.failure: Exception | None = None
        """Why the track has ended, if by itself: aiortc only logs it."""
        self.sent = 0
        """Frames handed to the socket."""
        self.send_delays: deque[float] = deque(maxlen=500)
        """Seconds from captured to ready to send, of the latest 10 s."""
        self.rtt: float | None = None
        """Seconds there and back, by the receiver's latest report."""

    def attach(self, sender: aiortc.RTCRtpSender) -> None:
        """Send by way of `sender`, which has this track; to be called before the connection is up."""
        start = sender.send
        send_rtcp, handle_rtcp = inside(sender, "_send_rtcp"), inside(sender, "_handle_rtcp_packet")
        inside(sender.transport, "_send_rtp")  # another transport by the time of sending, but of this make

        async def started(parameters: RTCRtpSendParameters) -> None:
            if self._stream is None:
                self._stream, self._send = RtpStream(parameters), sender.transport._send_rtp
            await start(parameters)

        async def report(packets: Sequence[AnyRtcpPacket]) -> None:
            for packet in packets:
                if isinstance(packet, RtcpSrPacket):
                    packet.sender_info = self._sender_info(packet.sender_info)
            await send_rtcp(packets)

        async def reported(packet: AnyRtcpPacket) -> None:
            if isinstance(packet, RtcpRrPacket | RtcpSrPacket) and self._stream is not None:
                for about in packet.reports:
                    if about.ssrc != self._stream.ssrc:
                        continue
                    self._doubling.hear(about.fraction_lost / 256)
                    if about.lsr:
                        self.rtt = ((_ntp() >> 16) - about.lsr - about.dlsr & 0xFFFF_FFFF) / 2**16
            await handle_rtcp(packet)

        sender.send = started  # type: ignore[method-assign]
        sender._send_rtcp = report  # type: ignore[method-assign]
        sender._handle_rtcp_packet = reported  # type: ignore[method-assign]

    async def recv(self) -> NoReturn:
        """Called by the sender for a first frame, which it never gets: all are sent from here."""
        try:
            while True:
                packet = self._pack(await self._source())
                if (
                    self._doubling.on and self._previous is not None
                ):  # apart in time, for losses come in bursts
                    await self._send(self._previous)
                await self._send(packet)
                self._previous = packet
                self.sent += 1
        except StopAsyncIteration as error:
            self.failure = error
            self.stop()
            raise MediaStreamError from None
        except ConnectionError:  # closed meanwhile
            raise
        except Exception as error:
            self.failure = error
            raise

    def _pack(self, frame: Frame) -> bytes:
        assert self._stream is not None, "not attached"
        step = 0
        if self._last is not None:
            # A sequence that runs backwards is a capture stream begun anew: just go on.
            step = max(1, frame.sequence - self._last.sequence)
        self._pts += step * FRAME_SAMPLES
        self._last = frame
        payload = self._encoder.encode(frame.samples)
        self._octets += len(payload)
        self.send_delays.append(time.monotonic() - frame.captured_at)
        return self._stream.packet(self._pts, payload, talkspurt=step != 1)

    def _sender_info(self, idle: RtcpSenderInfo) -> RtcpSenderInfo:
        """A report's NTP and RTP times name the same instant of the media (RFC 3550 6.4.1), which is now."""
        if self._last is None or self._stream is None:
            return idle
        since_captured = time.monotonic() - self._last.captured_at
        return RtcpSenderInfo(
            ntp_timestamp=_ntp(),
            rtp_timestamp=self._stream.time(self._pts + FRAME_SAMPLES + round(since_captured * SAMPLE_RATE)),
            packet_count=self.sent & 0xFFFF_FFFF,
            octet_count=self._octets & 0xFFFF_FFFF,
        )


def _ntp() -> int:
    """The time as RTCP has it: 32 bits of seconds since 1900, 32 bits of a second's fraction."""
    return int((time.time() + NTP_EPOCH) * 2**32) & (2**64 - 1)  # the seconds wrap in 2036
