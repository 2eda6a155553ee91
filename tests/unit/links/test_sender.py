"""The sending half on aiortc's own sender, its packets read by aiortc's parser; no socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiortc
import numpy as np
import pytest
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
    is_rtcp,
)

from pinna.errors import PinnaError
from pinna.frame import FRAME_SAMPLES, Frame
from pinna.links.opus import Encoder, packet_samples
from pinna.links.sender import NTP_EPOCH, Doubling, PacketTrack, RtpStream

MID = RTCRtpHeaderExtensionParameters(id=3, uri="urn:ietf:params:rtp-hdrext:sdes:mid")


def parameters(**changes: object) -> RTCRtpSendParameters:
    codec = RTCRtpCodecParameters("audio/opus", 48_000, 2, 109)
    given = {
        "codecs": [codec],
        "headerExtensions": [MID],
        "muxId": "a7",
        "rtcp": RTCRtcpParameters(cname="us", ssrc=0xFEDC_BA98),
    }
    return RTCRtpSendParameters(**(given | changes))


def parsed(data: bytes) -> RtpPacket:
    extensions = HeaderExtensionsMap()
    extensions.configure(parameters())
    return RtpPacket.parse(data, extensions)


def frame(sequence: int, age: float = 0.0) -> Frame:
    return Frame(np.full(FRAME_SAMPLES, 100, np.int16), sequence, time.monotonic() - age)


class Wire:
    """In the place of the DTLS transport: what was sent by `sender`."""

    def __init__(self, sender: aiortc.RTCRtpSender) -> None:
        self.sender = sender
        self.media: list[RtpPacket] = []
        self.reports: list[object] = []

    async def send(self, data: bytes) -> None:
        if is_rtcp(data):
            self.reports += RtcpPacket.parse(data)
        else:
            self.media.append(parsed(data))


@asynccontextmanager
async def sending(frames: list[Frame], *, ends: bool = True) -> AsyncIterator[tuple[PacketTrack, Wire]]:
    """A track that has sent all its frames, and ended if it is to."""
    waiting = iter(frames)
    asked_again = asyncio.Event()

    async def source() -> Frame:
        for each in waiting:
            return each
        asked_again.set()
        if not ends:
            await asyncio.Event().wait()
        raise StopAsyncIteration

    connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    track = PacketTrack(source, Encoder())
    track.add_listener("ended", asked_again.set)
    sender = connection.addTransceiver(track).sender
    wire = Wire(sender)
    sender.transport._send_rtp = wire.send
    track.attach(sender)
    await sender.send(parameters(rtcp=RTCRtcpParameters(cname="us", ssrc=sender._ssrc)))
    await asked_again.wait()
    yield track, wire
    await sender.stop()
    await connection.close()


class TestRtpStream:
    def test_a_header_is_what_a_parser_reads(self):
        stream = RtpStream(parameters())
        one, two = (
            parsed(stream.packet(0, b"one", talkspurt=True)),
            parsed(stream.packet(960, b"two", talkspurt=False)),
        )
        assert (one.ssrc, one.payload_type, one.extensions.mid) == (0xFEDC_BA98, 109, "a7")
        assert (one.payload, two.payload) == (b"one", b"two")
        assert (one.marker, two.marker) == (1, 0)
        assert two.sequence_number == one.sequence_number + 1
        assert (two.timestamp - one.timestamp) % 2**32 == 960
        assert one.timestamp == stream.time(0)

    def test_without_a_bundle_there_is_no_extension(self):
        packet = RtpStream(parameters(headerExtensions=[])).packet(0, b"x", talkspurt=False)
        assert len(packet) == 12 + 1
        assert RtpPacket.parse(packet).payload == b"x"

    def test_both_numbers_wrap(self):
        stream = RtpStream(parameters())
        first = parsed(stream.packet(0, b"", talkspurt=False))
        assert first.sequence_number < 2**15
        for _ in range(2**16 - 1):
            stream.packet(0, b"", talkspurt=False)
        again = parsed(stream.packet(2**32, b"", talkspurt=False))
        assert (again.sequence_number, again.timestamp) == (first.sequence_number, first.timestamp)

    def test_no_two_streams_begin_alike(self):
        starts = {parsed(RtpStream(parameters()).packet(0, b"", talkspurt=False)).timestamp for _ in range(4)}
        assert len(starts) == 4


def begun() -> Doubling:
    doubling = Doubling()
    while not doubling.on:
        doubling.hear(0.2)
    return doubling


class TestDoubling:
    def test_begins_when_a_tenth_is_lost_for_some_seconds(self):
        doubling = Doubling()
        for fraction in (0.3, 0.0, 0.0, *[0.09] * 100):
            doubling.hear(fraction)
            assert not doubling.on
        for _ in range(4):
            doubling.hear(0.2)
        assert doubling.on

    def test_goes_on_while_what_it_mends_goes_on(self):
        """One packet in five lost: of both, one in 25, in reports of 50 packets."""
        random = np.random.default_rng(1)
        doubling = begun()
        for lost in random.binomial(50, 0.2**2, 300):
            doubling.hear(lost / 50)
            assert doubling.on

    def test_ends_when_the_network_is_well_again(self):
        doubling = begun()
        reports = 0
        while doubling.on:
            doubling.hear(0.0)
            reports += 1
        assert 5 < reports < 60


class TestPacketTrack:
    def test_time_follows_the_sequence_and_a_gap_begins_a_talkspurt(self):
        async def scenario():
            async with sending([frame(n) for n in (7, 8, 11, 12, 3, 4)]) as (_, wire):
                return wire.media

        media = asyncio.run(scenario())
        first = media[0]
        times = [(packet.timestamp - first.timestamp) % 2**32 for packet in media]
        numbers = [(packet.sequence_number - first.sequence_number) % 2**16 for packet in media]
        assert times == [0, 960, 3840, 4800, 5760, 6720]
        assert numbers == [0, 1, 2, 3, 4, 5]
        assert [packet.marker for packet in media] == [1, 0, 1, 0, 0, 0]
        assert all(packet_samples(packet.payload) == FRAME_SAMPLES for packet in media)

    def test_ends_with_its_source(self):
        async def scenario():
            async with sending([frame(0)]) as (track, wire):
                assert track.readyState == "ended"
                assert isinstance(track.failure, StopAsyncIteration)
                assert track.sent == len(wire.media) == 1

        asyncio.run(scenario())

    def test_keeps_why_it_failed(self, caplog: pytest.LogCaptureFixture):
        async def scenario():
            bad = Frame(np.zeros(5, np.int16), 0, time.monotonic())
            async with sending([bad]) as (track, wire):
                assert isinstance(track.failure, ValueError)
                assert not wire.media

        asyncio.run(scenario())
        assert "frame" in caplog.text

    def test_a_closed_connection_is_no_failure_of_ours(self):
        async def scenario():
            connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))

            async def source() -> Frame:
                return frame(0)

            track = PacketTrack(source, Encoder())
            sender = connection.addTransceiver(track).sender
            track.attach(sender)
            ended = asyncio.Event()
            track.add_listener("ended", ended.set)
            await sender.send(parameters())  # its transport is not connected
            await ended.wait()
            await sender.stop()
            await connection.close()
            return track.failure, track.sent

        assert asyncio.run(scenario()) == (None, 0)

    def test_reports_pair_the_instant_with_the_time_of_its_sample(self):
        """A frame's last sample was captured 30 ms ago, its first 50 ms ago."""

        async def scenario():
            async with sending([frame(0), frame(1, age=0.030)], ends=False) as (_, wire):
                await wire.sender._send_rtcp([empty_report()])
                return wire, time.time()

        wire, now = asyncio.run(scenario())
        info = wire.reports[0].sender_info
        assert info.ntp_timestamp / 2**32 - NTP_EPOCH == pytest.approx(now, abs=0.1)
        ahead = (info.rtp_timestamp - wire.media[1].timestamp) % 2**32
        assert ahead == pytest.approx(48 * 50, abs=48 * 20)
        assert (info.packet_count, info.octet_count) == (2, sum(len(packet.payload) for packet in wire.media))

    def test_nothing_sent_is_nothing_reported(self):
        async def scenario():
            async with sending([], ends=False) as (_, wire):
                await wire.sender._send_rtcp([empty_report()])
                return wire.reports[0].sender_info

        info = asyncio.run(scenario())
        assert (info.packet_count, info.ntp_timestamp) == (0, 0)

    def test_the_round_trip_is_told_from_the_receivers_report(self):
        """It saw our report 0.2 s after we wrote it (by our clock), and answered 0.15 s later."""

        async def scenario():
            async with sending([frame(0)], ends=False) as (track, wire):
                sender = wire.sender
                lsr = int((time.time() + NTP_EPOCH - 0.2) * 2**16) & 0xFFFF_FFFF
                for ssrc, seen in ((sender._ssrc + 1, lsr), (sender._ssrc, 0)):  # of another, of none of ours
                    await sender._handle_rtcp_packet(receiver_report(ssrc, seen))
                assert track.rtt is None
                await sender._handle_rtcp_packet(receiver_report(sender._ssrc, lsr))
                return track.rtt

        assert asyncio.run(scenario()) == pytest.approx(0.05, abs=0.04)

    def test_reported_losses_make_it_repeat_each_packet_a_frame_later(self):
        async def scenario():
            frames: asyncio.Queue[Frame] = asyncio.Queue()
            connection = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
            track = PacketTrack(frames.get, Encoder())
            sender = connection.addTransceiver(track).sender
            wire = Wire(sender)
            sender.transport._send_rtp = wire.send
            track.attach(sender)
            await sender.send(parameters(rtcp=RTCRtcpParameters(ssrc=sender._ssrc)))
            for n in range(6):
                if n in (2, 4):
                    lost = 0.2 if n == 2 else 0.0
                    for _ in range(30):
                        await sender._handle_rtcp_packet(receiver_report(sender._ssrc, lost=lost))
                frames.put_nowait(frame(n))
                while track.sent <= n:  # noqa: ASYNC110 -- aiortc's task runs by itself
                    await asyncio.sleep(0)
            await sender.stop()
            await connection.close()
            first = wire.media[0].sequence_number
            return [packet.sequence_number - first for packet in wire.media], track.sent

        assert asyncio.run(scenario()) == ([0, 1, 1, 2, 2, 3, 4, 5], 6)


def empty_report() -> RtcpSrPacket:
    """As aiortc makes them: of what we send it knows nothing."""
    return RtcpSrPacket(ssrc=1, sender_info=RtcpSenderInfo(0, 0, packet_count=0, octet_count=0))


def receiver_report(ssrc: int, lsr: int = 0, lost: float = 0.0) -> RtcpRrPacket:
    info = RtcpReceiverInfo(
        ssrc=ssrc,
        fraction_lost=round(lost * 256),
        packets_lost=0,
        highest_sequence=1,
        jitter=0,
        lsr=lsr,
        dlsr=int(0.15 * 2**16),
    )
    return RtcpRrPacket(ssrc=5, reports=[info])


def test_a_changed_aiortc_is_named():
    class Changed:
        def send(self) -> None:
            pass

    async def source() -> Frame:
        return frame(0)

    with pytest.raises(PinnaError, match=r"aiortc .* has changed inside: Changed\._send_rtcp"):
        PacketTrack(source, Encoder()).attach(Changed())
