"""The archive's player in a real browser: seen, heard, sought in and cut from, also while it is recorded."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile
from playwright.async_api import Page, expect
from tests.support.archives import Recording, run, serving
from tests.support.browser import open_page
from tests.support.ramps import PERIOD

from pinna.recorder.events import Lost
from pinna.recorder.formats import Form

PHONE = {"width": 360, "height": 740}

# How much of the canvas has a colour of the page, by its name in page.css.
SHARE = """([id, name]) => {
  const canvas = document.querySelector(id);
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  probe.fillRect(0, 0, 1, 1);
  const wanted = probe.getImageData(0, 0, 1, 1).data;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let k = 0; k < data.length; k += 4) count += wanted.every((value, n) => data[k + n] === value);
  return count / (data.length / 4);
}"""


@asynccontextmanager
async def opened(recording: Recording) -> AsyncIterator[tuple[Page, aiohttp.ClientSession]]:
    async with serving(recording) as (archive, http), open_page(viewport=PHONE) as page:
        await page.goto(archive.address)
        await expect(page.get_by_role("button", name="Play mic").first).to_be_visible()
        await page.evaluate("window.audio = document.querySelector('audio')")
        yield page, http


async def drag(page: Page, start: float, end: float) -> None:
    box = await page.locator("#wave").bounding_box()
    assert box is not None
    height = box["y"] + box["height"] / 2
    await page.mouse.move(box["x"] + start * box["width"], height)
    await page.mouse.down()
    await page.mouse.move(box["x"] + end * box["width"], height, steps=5)
    await page.mouse.up()


def test_a_waveform_is_seen_sought_in_and_cut_from(tmp_path: Path):
    recording = Recording(tmp_path)

    async def scene() -> None:
        async with opened(recording) as (page, http):
            await page.get_by_role("button", name="Play mic").nth(3).click()
            await page.wait_for_function("() => audio.currentTime > 0.1")
            assert await page.evaluate(SHARE, ["#wave", "accent"]) > 0.05
            assert await page.evaluate(SHARE, ["#wave", "fault"]) == 0
            assert await page.evaluate(SHARE, ["#days canvas", "accent"]) > 0.005
            assert await page.evaluate(SHARE, ["#days canvas", "fault"]) > 0.002  # twenty seconds of an hour

            wave = page.get_by_role("slider", name="Waveform")
            box = await wave.bounding_box()
            assert box is not None
            await wave.click(position={"x": box["width"] / 2, "y": 20})
            await page.wait_for_function("() => audio.currentTime > 29.8 && audio.currentTime < 45")
            await wave.press("ArrowRight")
            await page.wait_for_function("() => audio.currentTime > 34.8")

            await drag(page, 0.25, 0.5)
            await expect(page.locator("#span")).to_contain_text("00:00:1")
            link = await page.get_by_role("link", name="Download clip").get_attribute("href")
            async with http.get(f"/{link}") as answer:
                data, rate = soundfile.read(io.BytesIO(await answer.read()), dtype="int16")
            assert abs(len(data) / rate - 15) < 0.5
            first = int(data[0])
            assert (data == np.arange(first, first + len(data)) % PERIOD).all()
            await wave.press("Escape")
            await expect(page.get_by_role("link", name="Download clip")).to_be_hidden()
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    run(scene)


@pytest.mark.parametrize(
    "form", [pytest.param(Form("wav", 8000, 1, 16), marks=pytest.mark.full), Form("flac", 8000, 1, 16)]
)
def test_a_file_is_played_while_it_grows(tmp_path: Path, form: Form):
    """Sought in with its true length, and played on into what came after it was opened.

    Of FLAC, up to a second is still with the encoder.
    """
    recording = Recording(tmp_path, form)

    async def scene() -> None:
        async with opened(recording) as (page, _):
            await page.get_by_role("button", name="Play mic").nth(0).click()
            await page.wait_for_function("() => audio.currentTime > 0.1 && Number.isFinite(audio.duration)")
            length = await page.evaluate("audio.duration")
            assert 28.5 < length <= 30
            await expect(page.locator("#live")).to_be_visible()
            await page.evaluate("audio.currentTime = 20")
            await page.wait_for_function("() => audio.currentTime > 20.1")

            recording.track.take(Lost("xrun", 4000, "overrun"))
            recording.play(20)
            await expect(page.locator("#place")).to_contain_text(
                re.compile("of 00:00:(49|50)"), timeout=15_000
            )
            assert await page.evaluate(SHARE, ["#wave", "fault"]) > 0.005
            await page.evaluate("audio.currentTime = audio.duration - 0.3")
            await page.wait_for_function(f"() => audio.currentTime > {length + 0.1}")
            assert await page.evaluate("audio.duration") > 48.5

            await page.evaluate("audio.currentTime = audio.duration - 0.3")
            await page.wait_for_function("() => audio.ended")
            recording.play(5)  # who has heard everything hears what comes
            await page.wait_for_function("() => !audio.ended && audio.currentTime > 50", timeout=15_000)

    run(scene)


def test_loud_sections_are_listed_and_a_day_is_entered_by_a_tap(tmp_path: Path):
    recording = Recording(tmp_path)

    async def scene() -> None:
        async with opened(recording) as (page, _):
            line = page.get_by_role("img", name="mic, 2026-11-21")
            box = await line.bounding_box()
            assert box is not None
            await line.click(position={"x": box["width"] * 1.3 / 60, "y": 10})  # one minute after ten
            await expect(page.locator("#playing")).to_have_text("mic, 2026-11-21 10:01:00")
            await page.get_by_role("button", name="Loud sections").click()
            found = page.get_by_role("list", name="Loud sections").get_by_role("button")
            await expect(found.nth(1)).to_be_visible()  # each time the ramp comes to its top
            await found.nth(1).click()
            await page.wait_for_function("() => audio.currentTime > 3")
            await expect(page.get_by_role("link", name="Download clip")).to_be_visible()

    run(scene)
