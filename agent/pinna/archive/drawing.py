"""What is drawn: the waveform of a file, its loud sections, and a day in a line. From peaks alone."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from pinna.archive import loudness
from pinna.archive.library import Found, Library, number, reply
from pinna.archive.overview import MOST_FILES, overview
from pinna.recorder import peaks
from pinna.recorder.peaks import Peaks

POINTS: Final = 1200
MOST_POINTS: Final = 10_000


class Drawing:
    def __init__(self, library: Library) -> None:
        self._library = library

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/peaks", self._peaks)
        app.router.add_get("/api/analyze", self._analyze)
        app.router.add_get("/api/overview", self._overview)

    async def _peaks(self, request: web.Request) -> web.Response:
        """`drawn` false: there are none (yet), and the lists are empty. A gap's `at`: seconds in the file."""
        points = int(number(request, "points", POINTS, 1, MOST_POINTS))
        found = await self._library.find_by_query(request)
        row = found.row
        drawn = await _read(found)
        gaps = await self._library.ask(lambda index: index.gaps(row["source"], row["day"], 1000, row["name"]))
        body: dict[str, Any] = {
            "drawn": drawn is not None,
            "seconds_each": None,
            "low": [],
            "high": [],
            "rms": [],
        }
        if drawn is not None:
            body |= await asyncio.to_thread(loudness.reduced, drawn, points)
        kept = ("seconds", "samples", "reason", "detail", "estimated", "time")
        inside = [{"at": gap["offset"] / row["rate"], **{key: gap[key] for key in kept}} for gap in gaps]
        return reply({**body, "gaps": inside})

    async def _analyze(self, request: web.Request) -> web.Response:
        margin = number(request, "margin", loudness.MARGIN_DB, 1, 90)
        gap = number(request, "gap", loudness.GAP_SECONDS, 0, 3600)
        minimum = number(request, "minimum", loudness.MINIMUM_SECONDS, 0, 3600)
        found = await self._library.find_by_query(request)
        drawn = await _read(found)
        if drawn is None:
            raise web.HTTPNotFound(text="this has no peaks: a stream's come when its file has ended")

        def analyzed() -> dict[str, Any]:
            level = loudness.levels(drawn)
            floor = loudness.noise_floor(level, drawn.seconds_each)
            sections = loudness.loud_sections(drawn, margin, gap, minimum)
            return {
                "noise_floor_db": round(float(floor.mean()), 1) if floor.size else None,
                "loudest_db": round(float(level.max()), 1) if level.size else None,
                "sections": [asdict(section) for section in sections],
            }

        return reply(await asyncio.to_thread(analyzed))

    async def _overview(self, request: web.Request) -> web.Response:
        source, day = request.query.get("source", ""), request.query.get("day", "")
        if not source or not day:
            raise web.HTTPBadRequest(text="source and day must both be given")
        library = self._library
        return reply(
            await library.ask(
                lambda index: overview(
                    library.directory,
                    day,
                    [library.describe(row) for row in index.files(source, day, None, MOST_FILES)],
                    index.gaps(source, day, MOST_FILES),
                )
            )
        )


async def _read(found: Found) -> Peaks | None:
    try:
        return await asyncio.to_thread(peaks.read, found.path)
    except OSError as error:
        raise web.HTTPServiceUnavailable(text=f"the peaks cannot be read: {error.strerror}") from error
