"""The hub's page in a real browser: devices, meters, listening, tokens, and a hub that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from playwright.async_api import Page, expect
from tests.support.browser import open_page
from tests.support.hub_device import device, speech, tone

from pinna.hub.options import HubOptions
from pinna.hub.server import Hub

HEARD_ENERGY = """async () => {
  const stats = [...(await window.peers.at(-1).getStats()).values()];
  return stats.find((one) => one.type === "inbound-rtp")?.totalAudioEnergy ?? 0;
}"""


async def hears(page: Page, more_than: float = 0.0) -> None:
    async with asyncio.timeout(20):
        while await page.evaluate(HEARD_ENERGY) < more_than + 0.001:  # noqa: ASYNC110  a browser has no events
            await asyncio.sleep(0.1)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


def test_a_device_shows_up_moves_its_meter_and_is_heard() -> None:
    async def scene() -> None:
        async with (
            Hub(HubOptions(port=0)) as hub,
            aiohttp.ClientSession(hub.address) as http,
            open_page() as page,
        ):
            await page.goto(hub.address)
            await expect(page.get_by_text("No device is connected")).to_be_visible()
            await expect(page.locator("#command")).to_have_text(f"pinna run --hub-url {hub.address}")
            async with device(http, "kitchen", speech("one two three four five six"), repeat=True):
                await expect(page.get_by_role("heading", name="kitchen")).to_be_visible()
                await expect(page.get_by_text("No device is connected")).to_be_hidden()
                levels: set[str | None] = set()
                meter = page.get_by_role("meter", name="Level of kitchen")
                async with asyncio.timeout(20):
                    while len(levels) < 4:
                        levels.add(await meter.get_attribute("aria-valuenow"))
                await expect(page.get_by_text("speaking", exact=True)).to_be_visible(timeout=20_000)

                await page.get_by_role("button", name="Listen to kitchen").click()
                await expect(page.get_by_role("button", name="Stop kitchen")).to_be_visible(timeout=20_000)
                await hears(page)
                await page.get_by_role("button", name="Stop kitchen").click()
                await expect(page.get_by_role("button", name="Listen to kitchen")).to_be_visible()
            await expect(page.get_by_text("gone", exact=True)).to_be_visible()

    run(scene)


def test_listening_goes_on_when_the_device_comes_back() -> None:
    async def scene() -> None:
        async with (
            Hub(HubOptions(port=0)) as hub,
            aiohttp.ClientSession(hub.address) as http,
            open_page() as page,
        ):
            await page.goto(hub.address)
            async with device(http, "kitchen"):
                await page.get_by_role("button", name="Listen to kitchen").click()
                await expect(page.get_by_role("button", name="Stop kitchen")).to_be_visible(timeout=20_000)
            await expect(page.get_by_text("gone", exact=True)).to_be_visible()
            silence = await page.evaluate(HEARD_ENERGY)
            async with device(http, "kitchen", tone(1000, 1.0), repeat=True):
                await hears(page, more_than=silence)

    run(scene)


def test_the_page_asks_for_the_token_and_keeps_it() -> None:
    async def scene() -> None:
        token = "correct horse"
        async with (
            Hub(HubOptions(port=0, token=token)) as hub,
            aiohttp.ClientSession(hub.address, headers={"Authorization": f"Bearer {token}"}) as http,
            open_page() as page,
            device(http, "kitchen", tone(1000, 1.0), repeat=True),
        ):
            await page.goto(hub.address)
            await page.get_by_label("Token").fill("wrong")
            await page.get_by_role("button", name="Open").click()
            await expect(page.get_by_text("The hub does not know this token.")).to_be_visible()
            await page.get_by_label("Token").fill(token)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", name="kitchen")).to_be_visible()
            await page.reload()
            await expect(page.get_by_role("heading", name="kitchen")).to_be_visible()
            await page.get_by_role("button", name="Listen to kitchen").click()
            await hears(page)

    run(scene)


def test_the_page_says_when_the_hub_is_gone_and_finds_it_again() -> None:
    async def scene() -> None:
        async with open_page() as page:
            async with Hub(HubOptions(port=0)) as hub:
                port = int(hub.address.rpartition(":")[2])
                await page.goto(hub.address)
                await expect(page.get_by_text("No device is connected")).to_be_visible()
            await expect(page.get_by_role("alert").filter(has_text="Trying again")).to_be_visible()
            await expect(page.get_by_text("No device is connected")).to_be_hidden()
            async with Hub(HubOptions(port=port)):
                await expect(page.get_by_text("No device is connected")).to_be_visible(timeout=20_000)
                await expect(page.get_by_text("Trying again")).to_be_hidden()

    run(scene)


def test_the_page_loads_nothing_from_elsewhere_and_fits_a_phone() -> None:
    async def scene() -> None:
        async with (
            Hub(HubOptions(port=0)) as hub,
            aiohttp.ClientSession(hub.address) as http,
            open_page(viewport={"width": 320, "height": 640}) as page,
            device(http, "a-device-with-a-name-of-sixty-four-characters-which-is-the-longest"[:64]),
        ):
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(hub.address)
            await expect(page.get_by_role("button", name="Listen to")).to_be_visible()
            assert all(url.startswith(hub.address) for url in asked)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 320
            size = await page.evaluate(
                "performance.getEntriesByType('resource').reduce((sum, one) => sum + one.decodedBodySize, 0)"
            )
            assert size < 40_000

    run(scene)
