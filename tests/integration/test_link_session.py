"""A session from first packet to last: real aiortc peers, real UDP."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from tests.support.fakehub import FakeHub, tone
from tests.support.link_device import LinkDevice, until


def run(scenario):
    asyncio.run(scenario)


def pitch(samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 48_000 / len(samples))


@pytest.mark.parametrize("dialect", ["connect", "whip"])
def test_sound_flows_both_ways(dialect):
    async def scenario():
        async with FakeHub(dialect) as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()
            heard = []

            def hear():
                frame = hub.session.receiver.frame(time.monotonic())
                if frame is not None:
                    heard.append(frame)
                return len(heard) > 30

            await until(hear)
            assert abs(pitch(np.concatenate(heard[10:])) - 440) < 10

            for number, samples in enumerate(tone(50, 600)):
                hub.session.speech.put_nowait(samples)
                await until(lambda number=number: hub.session.track.sent >= number)
                await asyncio.sleep(0.02)
            await until(lambda: len(device.speaker.played) >= 48)
            assert abs(pitch(np.concatenate(device.speaker.played[10:45])) - 600) < 10

            stats = device.link.stats
            assert stats.connected
            assert stats.connections == 1
            assert stats.connection_failures == 0
            assert stats.frames_sent >= 30
            assert stats.frames_received == 50
            assert stats.packets_lost == 0

    run(scenario())
