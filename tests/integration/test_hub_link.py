"""The agent's own link against the hub, in both dialects."""

from __future__ import annotations

import asyncio
from typing import Literal

import aiohttp
import numpy as np
import pytest
from tests.support.hub_device import eventually, strength
from tests.support.link_device import LinkDevice

from pinna.config import HubConfig
from pinna.frame import SAMPLE_RATE
from pinna.hub.options import HubOptions
from pinna.hub.server import Hub


@pytest.mark.parametrize("dialect", ["connect", "whip"])
def test_the_agent_hears_its_own_voice_come_back_and_says_good_bye(
    dialect: Literal["connect", "whip"],
) -> None:
    async def scene() -> None:
        async with Hub(HubOptions(port=0, token="secret", echo_delay_ms=200)) as hub:
            path = "/whip/ear-1" if dialect == "whip" else ""
            config = HubConfig(url=hub.address + path, dialect=dialect)
            async with LinkDevice(config, token="secret") as device:
                device.start()
                await eventually(lambda: len(device.speaker.played) > 150)
                heard = np.concatenate(device.speaker.played)[-SAMPLE_RATE:]
                assert strength(heard, 440) > 0.5
                seen = hub.health(names=True)["devices"]["ear-1"]
                assert seen["frames_received"] > 100
                assert seen["latency_ms"]["p99"] < 5000
            await eventually(lambda: hub.health(names=True)["active_devices"] == 0)

    asyncio.run(scene())


def test_the_agent_learns_at_once_that_the_hub_has_stopped() -> None:
    async def scene() -> None:
        async with Hub(HubOptions(port=0)) as hub, LinkDevice(HubConfig(url=hub.address)) as device:
            running = device.start()
            await eventually(lambda: device.link.stats.connected)
            # A hub amid its own half of the handshake has nobody yet to say good-bye to.
            await eventually(lambda: any(d["connected"] for d in hub.health(names=True)["devices"].values()))
            await hub.stop()
            await asyncio.wait([running], timeout=5)
            assert "closed the connection" in str(running.exception())

    asyncio.run(scene())


def test_a_whip_session_that_is_over_is_not_found() -> None:
    async def scene() -> None:
        async with Hub(HubOptions(port=0)) as hub, aiohttp.ClientSession(hub.address) as http:
            for method in ("GET", "PATCH", "DELETE"):
                async with http.request(method, "/whip/kitchen/0123456789") as response:
                    assert response.status == 404

    asyncio.run(scene())
