"""The link over networks that lose, reorder, double, stall and die: real datagrams, scripted faults."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from aiohttp import web
from tests.support.fakehub import FakeHub, HubSession, tone
from tests.support.link_device import LinkDevice, until
from tests.support.lossy import Script, UdpRelay

from pinna.errors import HubUnreachableError

NETWORKS = {
    "clean": Script(),
    "5 % lost": Script(loss=0.05, longest_gap=5),
    "20 % lost": Script(loss=0.20, longest_gap=5, seed=2),
    "reordered": Script(reorder=0.1, seed=3),
    "doubled": Script(duplicate=0.3, seed=4),
    "bursts": Script(burst_every=1.0),
    "all at once": Script(loss=0.1, longest_gap=5, reorder=0.1, duplicate=0.1, burst_every=1.5, seed=5),
}


async def hear(session: HubSession, seconds: float) -> int:
    """Play the session's sound for so long, by a clock; how many ticks had any."""
    sounding = 0
    start = time.monotonic()
    for tick in itertools.count(1):
        await asyncio.sleep(start + tick * 0.02 - time.monotonic())
        sounding += session.receiver.frame(time.monotonic()) is not None
        if tick * 0.02 >= seconds:
            return sounding


async def speak(session: HubSession, seconds: float) -> None:
    start = time.monotonic()
    for number, samples in enumerate(tone(int(seconds * 50), 600)):
        await asyncio.sleep(max(0.0, start + number * 0.02 - time.monotonic()))
        session.speech.put_nowait(samples)


@pytest.mark.parametrize("network", NETWORKS)
def test_both_directions_through(network):
    """Whatever arrived in time, or could be had from the next packet, is played, both ways."""
    script = NETWORKS[network]

    async def scenario():
        relay = UdpRelay(script, script)
        async with FakeHub(relay=relay) as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()
            await until(lambda: hub.session.packets)
            await asyncio.gather(hear(hub.session, 3.0), speak(hub.session, 3.0))
            await asyncio.sleep(0.3)  # what is on its way

            for stats, direction in (
                (hub.session.receiver.stats, relay.up),
                (device.link._session._receiver.stats, relay.down),
            ):
                arrived = stats.received - stats.duplicates
                assert direction.dropped >= direction.seen * script.loss / 3
                # Lost is what was dropped, and what came too late; nothing is lost on our side of the wire.
                assert stats.lost - stats.late <= direction.dropped
                assert (
                    stats.late <= (0.02 if not script.burst_every and not script.reorder else 0.1) * arrived
                )
                assert stats.overflowed == 0
                assert stats.recovered + stats.concealed + stats.skipped >= 0.8 * stats.lost
                assert stats.recovered > 0 or not script.loss  # a tone's packets seldom hold a second copy
                assert stats.duplicates == 0, "SRTP takes no packet twice"
            assert len(device.speaker.played) >= 140 * (1 - script.loss / 2)
            assert device.link.stats.connected

    asyncio.run(scenario())


def test_under_heavy_loss_each_packet_is_sent_twice():
    async def scenario():
        relay = UdpRelay(up=Script(loss=0.2, longest_gap=5, seed=7))
        async with FakeHub(relay=relay) as hub, LinkDevice(hub.config) as device:
            device.start()
            await device.connected()
            await until(lambda: hub.session.packets)
            listening = asyncio.create_task(hear(hub.session, 60.0))
            await until(lambda: relay.up.seen > device.link.stats.frames_sent + 25)
            stats = hub.session.receiver.stats
            lost, received = stats.lost, stats.received
            await until(lambda: stats.received > received + 200)
            assert stats.lost - lost < 0.1 * 200, "of 20 % lost, 4 % are lost twice"
            listening.cancel()
            await asyncio.wait([listening])

    asyncio.run(scenario())


def test_a_cut_network_is_noticed_within_seconds():
    async def scenario():
        relay = UdpRelay()
        async with FakeHub(relay=relay) as hub, LinkDevice(hub.config) as device:
            running = device.start()
            await device.connected()
            await until(lambda: device.link.stats.rtt_ms is not None)  # reports have come both ways
            relay.cut = True
            start = time.monotonic()
            with pytest.raises(HubUnreachableError, match="fallen silent"):
                await running
            assert time.monotonic() - start < 15, "ICE alone takes thirty seconds"
            assert not device.link.stats.connected
            assert device.link.stats.connection_failures == 0
            assert "fallen silent" in device.link.stats.last_error

    asyncio.run(scenario())


def test_a_hub_without_reports_and_without_speech_is_not_taken_for_dead():
    async def scenario():
        async with FakeHub(rtcp=False) as hub, LinkDevice(hub.config) as device:
            running = device.start()
            await device.connected()
            await until(
                lambda: sum(r.path == "/health" for r in hub.requests) >= 2
            )  # silent past the limit, twice
            assert not running.done()
            hub.health_status = 500
            with pytest.raises(HubUnreachableError, match="fallen silent"):
                await running

    asyncio.run(scenario())


@pytest.mark.parametrize("dialect", ["connect", "whip"])
def test_a_hub_that_hangs_up_is_noticed_at_once_and_can_be_called_again(dialect):
    async def scenario():
        async with FakeHub(dialect) as hub, LinkDevice(hub.config) as device:
            for session in (1, 2, 3):
                running = device.start()
                await device.connected()
                await until(lambda: hub.session.packets)
                start = time.monotonic()
                await hub.hang_up()
                with pytest.raises(HubUnreachableError, match="closed the connection"):
                    await running
                assert time.monotonic() - start < 3.0, "not by a time-out"
                assert device.link.stats.connections == session
            assert device.link.stats.connection_failures == 0

    asyncio.run(scenario())


def test_a_hub_that_comes_back_on_its_port():
    async def scenario():
        first = await FakeHub().__aenter__()
        async with LinkDevice(first.config) as device:
            running = device.start()
            await device.connected()
            await first.__aexit__(None, None, None)
            # DTLS says good-bye in one datagram that nobody repeats; without it, silence has to tell.
            with pytest.raises(HubUnreachableError, match=r"closed the connection|fallen silent"):
                await running
            with pytest.raises(HubUnreachableError, match="Connection refused"):
                await device.start()
            async with FakeHub(port=first.port):
                device.start()
                await device.connected()
                stats = device.link.stats
                assert (stats.connections, stats.connection_failures, stats.last_error) == (2, 1, None)

    asyncio.run(scenario())


def test_no_media_gets_through():
    """Signalling works, UDP does not: a failed attempt, said so."""

    async def scenario():
        relay = UdpRelay()
        relay.cut = True
        async with FakeHub(relay=relay) as hub, LinkDevice(hub.config) as device:
            with pytest.raises(HubUnreachableError, match="no media gets through") as caught:
                await device.start()
            assert "UDP" in caught.value.hint
            stats = device.link.stats
            assert (stats.connections, stats.connection_failures, stats.connected) == (0, 1, False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pinna.links.webrtc.MEDIA_SECONDS", 1.0)
        asyncio.run(scenario())


def test_every_failed_attempt_is_counted():
    async def scenario():
        async def sorry(request):
            return web.Response(status=503)

        async with FakeHub(instead=sorry) as hub, LinkDevice(hub.config) as device:
            for attempt in (1, 2, 3):
                with pytest.raises(HubUnreachableError):
                    await device.start()
                assert device.link.stats.connection_failures == attempt

    asyncio.run(scenario())
