"""An archive with a recording that can be made to go on, and a server in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from tests.support.ramps import ManualTime, files, plan, ramp

from pinna.archive.server import Archive
from pinna.recorder.events import Chunk, Down
from pinna.recorder.formats import Form
from pinna.recorder.track import Track

FORM = Form("wav", 8000, 1, 16)
START = 1_795_255_200.0


class Recording:
    """Two and a half minutes with a gap of twenty seconds; the last file is still open."""

    def __init__(self, folder: Path, form: Form = FORM) -> None:
        self.folder, self.form = folder, form
        self.time = ManualTime(START)
        self.track = Track(plan(folder / "mic", form), self.time, lambda *_: None)
        self.next = 0
        self.play(90)
        self.track.take(Down("unplug", "No such device"))
        self.time.now += 20
        self.play(40)

    def play(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time.now += 1
            self.track.take(Chunk(ramp(self.next, self.form.rate, self.form), self.time.now))
            self.next += self.form.rate

    @property
    def paths(self) -> list[Path]:
        return files(self.folder / "mic")


@asynccontextmanager
async def serving(
    recording: Recording, token: str = "", *, alive: bool = True
) -> AsyncIterator[tuple[Archive, aiohttp.ClientSession]]:
    """`alive`: the recording's files are brought to the disk as a recorder does it."""
    status = recording.folder / "status.json"

    async def keep_alive() -> None:
        while alive:
            recording.track.sync()
            await asyncio.sleep(1)

    async with (
        Archive(recording.folder, status, "127.0.0.1", 0, token) as archive,
        aiohttp.ClientSession(archive.address) as http,
    ):
        living = asyncio.create_task(keep_alive())
        try:
            yield archive, http
        finally:
            living.cancel()


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


def where(path: Path) -> str:
    return "/".join(path.parts[-3:])
