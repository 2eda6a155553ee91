"""Our pages in a real browser: Debian's Chromium."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, async_playwright

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

# Keeps the page's peer connections where the test can ask them.
KEEP_PEERS = """
window.peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...all) { super(...all); window.peers.push(this); }
};
"""


@asynccontextmanager
async def open_page(**context: Any) -> AsyncIterator[Page]:
    """A page that fails the test when anything goes wrong inside."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = await (await browser.new_context(**context)).new_page()
        await page.add_init_script(KEEP_PEERS)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        try:
            yield page
        finally:
            await browser.close()
        assert faults == []
