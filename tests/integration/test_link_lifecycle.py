"""Sessions begin and end, in every way and at every moment, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from fractions import Fraction

import aiortc
import av
import numpy as np
import psutil
import pytest
from tests.support.fakehub import FakeHub, tone
from tests.support.link_device import LinkDevice, until

from pinna.errors import PinnaError
from pinna.frame import Frame


async def traces() -> tuple[int, int, int]:
    """Tasks, open files and threads, once what is ending has ended."""
    for _ in range(5):
        await asyncio.sleep(0.02)
    gc.collect()
    process = psutil.Process()
    return len(asyncio.all_tasks()), process.num_fds(), process.num_threads()


async def no_more_than(before: tuple[int, int, int]) -> None:
    now = before
    try:
        async with asyncio.timeout(5):
            while any(n > b for n, b in zip(now, before, strict=True)) or now is before:
                now = await traces()
    except TimeoutError:
        pytest.fail(f"tasks, files, threads: {before} before, {now} after; {asyncio.all_tasks()}")


@pytest.mark.parametrize("dialect", ["connect", "whip"])
def test_thirty_sessions_leave_nothing(dialect):
    async def scenario():
        async with FakeHub(dialect) as hub, LinkDevice(hub.config) as device:
            before = None
            for number in range(30):
                device.start()
                await device.connected()
                await until(lambda: hub.session.packets)
                await device.stop()
                await hub.hang_up()
                if dialect == "whip":
                    assert hub.session.deleted
                if number == 2:  # by then everything is loaded, pooled and cached
                    before = await traces()
            assert before is not None
            await no_more_than(before)
            stats = device.link.stats
            assert stats.connections == 30
            assert stats.frames_sent >= 30
            assert not stats.connected

    asyncio.run(scenario())


@pytest.mark.parametrize("dialect", ["connect", "whip"])
def test_cancelled_at_any_moment(dialect):
    """Forty cancellations spread over the time a session takes to come up, each at another await."""
    rng = random.Random(7)

    async def scenario():
        async with FakeHub(dialect) as hub, LinkDevice(hub.config) as device:
            device.start()
            start = time.monotonic()
            await device.connected()
            took = time.monotonic() - start
            await device.stop()
            await hub.hang_up()
            before = await traces()
            for _ in range(40):
                running = device.start()
                await asyncio.sleep(rng.random() * took * 1.2)
                running.cancel()
                if rng.random() < 0.5:  # once more, while it tidies up
                    await asyncio.sleep(rng.random() * 0.01)
                    running.cancel()
                await asyncio.wait([running], timeout=10)
                assert running.cancelled()
            await hub.hang_up()
            await no_more_than(before)
            assert device.link.stats.connection_failures == 0, "to be cancelled is not to fail"

    asyncio.run(scenario())


def test_cancelled_by_steps():
    """Cancelled after the first, second, third... turn of the event loop."""

    async def scenario():
        async with FakeHub("whip") as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()
            await device.stop()
            await hub.hang_up()
            before = await traces()
            for steps in range(60):
                running = device.start()
                for _ in range(steps):
                    await asyncio.sleep(0)
                running.cancel()
                await asyncio.wait([running], timeout=10)
                assert running.cancelled()
            await hub.hang_up()
            await no_more_than(before)

    asyncio.run(scenario())


def test_stale_sound_does_not_open_a_session():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            device.muted = True
            loud = np.full(960, 20_000, np.int16)
            for number in range(10):
                device.microphone.put(Frame(loud, number, time.monotonic()))
            device.start()
            await device.connected()
            assert len(device.microphone) == 0
            assert device.link.stats.frames_sent == 0
            await asyncio.sleep(0.2)
            assert not hub.session.packets

    asyncio.run(scenario())


def test_speech_is_played_while_the_microphone_pauses():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            device.muted = True
            device.start()
            await device.connected()
            start = time.monotonic()
            for number, samples in enumerate(tone(50)):
                await asyncio.sleep(max(0.0, start + number * 0.02 - time.monotonic()))
                hub.session.speech.put_nowait(samples)
            await until(lambda: device.link.stats.frames_received == 50)
            await until(lambda: len(device.speaker.played) >= 50)

    asyncio.run(scenario())


def test_a_gap_in_the_microphone_is_a_gap_in_rtp_time():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()
            await until(lambda: len(hub.session.packets) > 5)
            device.muted = True
            await asyncio.sleep(0.3)
            device.muted = False
            await until(lambda: len(hub.session.packets) > 40)
            packets = hub.session.packets
            steps = {(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(packets)}
            assert all(
                (b.sequence_number - a.sequence_number) % 65536 == 1 for a, b in itertools.pairwise(packets)
            )
            assert min(steps) == 960
            assert all(step % 960 == 0 for step in steps)
            assert max(steps) > 9600

    asyncio.run(scenario())


def test_the_hub_can_tell_the_latency():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()

            def told():
                hub.session.receiver.frame(time.monotonic())
                return hub.session.receiver.latency_ms is not None

            await until(told)
            assert 20 <= hub.session.receiver.latency_ms < 1000

    asyncio.run(scenario())


def test_a_broken_microphone_ends_the_session_with_its_error():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            running = device.start()
            await device.connected()
            device.microphone.put(Frame(np.zeros(10, np.int16), 1, time.monotonic()))
            with pytest.raises(ValueError, match="frame"):
                await running

    asyncio.run(scenario())


def test_the_end_of_the_microphone_is_told():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            running = device.start()
            await device.connected()
            device.microphone.close()
            with pytest.raises(PinnaError, match="microphone's stream has ended"):
                await running

    asyncio.run(scenario())


def test_a_broken_speaker_ends_the_session_with_its_error():
    async def scenario():
        async with FakeHub() as hub, LinkDevice(hub.config) as device:
            device.speaker.play = lambda samples: 1 / 0
            running = device.start()
            await device.connected()
            for samples in tone(5):
                hub.session.speech.put_nowait(samples)
            with pytest.raises(ZeroDivisionError):
                await running

    asyncio.run(scenario())


class ForeignTrack(aiortc.MediaStreamTrack):
    """A tone in stereo packets of 60 ms, as no part of ours makes them."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._codec = av.CodecContext.create("libopus", "w")
        self._codec.sample_rate, self._codec.layout, self._codec.format = 48_000, "stereo", "s16"
        self._codec.time_base = Fraction(1, 48_000)
        self._codec.options = {"frame_duration": "60"}
        self._at = 0
        self._start = time.monotonic()

    async def recv(self) -> av.Packet:
        t = np.arange(self._at, self._at + 2880) / 48_000
        block = np.repeat((8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16), 2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, self._at
        self._at += 2880
        await asyncio.sleep(max(0.0, self._start + self._at / 48_000 - time.monotonic()))
        packets = self._codec.encode(frame)
        packet = av.Packet(bytes(packets[0]) if packets else b"")
        packet.pts, packet.time_base = self._at, Fraction(1, 48_000)
        return packet


@pytest.mark.parametrize("track", ["60 ms stereo", "aiortc's own"])
def test_foreign_hubs_sound_right(track):
    class Tone(aiortc.mediastreams.AudioStreamTrack):
        """aiortc's encoder: stereo, 96 kb/s."""

        at = 0

        async def recv(self):
            frame = await super().recv()  # 20 ms of silence at 8 kHz, paced
            t = np.arange(self.at, self.at + 960) / 48_000
            self.at += 960
            sound = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16).reshape(1, -1)
            tone_frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
            tone_frame.sample_rate, tone_frame.pts = 48_000, frame.pts * 6
            tone_frame.time_base = Fraction(1, 48_000)
            return tone_frame

    async def scenario():
        foreign = ForeignTrack() if track == "60 ms stereo" else Tone()
        async with FakeHub(track=foreign) as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()
            await until(lambda: len(device.speaker.played) > 80)
            sound = np.concatenate(device.speaker.played[20:75])
            spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
            assert abs(np.argmax(spectrum) * 48_000 / len(sound) - 440) < 10
            assert all(frame.shape == (960,) for frame in device.speaker.played)
            foreign.stop()

    asyncio.run(scenario())
