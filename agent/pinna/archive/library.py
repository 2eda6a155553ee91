"""What the routes ask: the index, kept fresh behind their backs, and the files it names."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web

from pinna.archive import growing
from pinna.archive.index import Index
from pinna.archive.reading import SAFE_NAME
from pinna.recorder.formats import Form

PATIENCE_SECONDS: Final = 0.05
"""A look at the last two days takes a few milliseconds. What takes longer is not waited for."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that is there. `extent`: of one that no line has closed."""

    path: Path
    row: dict[str, Any]
    extent: growing.Extent | None

    @property
    def view(self) -> growing.View | None:
        """Of a growing file, as it is now; None of a finished one. Blocks; raises OSError."""
        extent = self.extent
        if extent is None:
            return None
        return growing.view(self.path, form_of(self.row), extent.bytes, extent.samples)


class Library:
    """The archive in `directory`; one for each server."""

    def __init__(self, directory: Path, status_file: Path) -> None:
        self.directory = directory.resolve()
        self._status_file = status_file
        self._index = Index(self.directory)
        self._refresh: asyncio.Task[None] | None = None
        self._patient_until = 0.0

    async def ask(self, question: Callable[[Index], T]) -> T:
        """`question` in a thread, of an index that may be seconds old while a large archive is read."""
        if not self._index.fresh:
            await self._follow()
        try:
            return await asyncio.to_thread(question, self._index)
        except OSError as error:
            raise _unreadable(error) from error

    async def _follow(self) -> None:
        if self._refresh is None:
            self._refresh = asyncio.create_task(asyncio.to_thread(self._index.refresh))
            self._patient_until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        task = self._refresh
        left = self._patient_until - asyncio.get_running_loop().time()
        await asyncio.wait({task}, timeout=max(0.0, left))
        if task.done():
            if self._refresh is task:
                self._refresh = None
            if error := task.exception():
                if isinstance(error, OSError):
                    raise _unreadable(error)
                raise error

    async def close(self) -> None:
        self._index.end()
        if self._refresh is not None:
            await asyncio.gather(self._refresh, return_exceptions=True)

    @property
    def whole(self) -> bool:
        return self._index.whole

    async def find(self, source: str, day: str, name: str) -> Found:
        """Only what the manifests name, so nothing in a request ever becomes a path. Raises HTTPException."""
        row = await self.ask(lambda index: index.file(source, day, name))
        found = await asyncio.to_thread(self._look, row) if row else None
        if found is None and row is None and not self.whole:
            raise web.HTTPServiceUnavailable(
                text="the archive is still being read; ask again in a while", headers={hdrs.RETRY_AFTER: "2"}
            )
        if found is None:
            raise web.HTTPNotFound(text="there is no such recording")
        return found

    async def find_by_query(self, request: web.Request) -> Found:
        """`file=SOURCE/DAY/NAME`. Names have a `+` and no space: who forgot to write %2B is understood."""
        parts = request.query.get("file", "").replace(" ", "+").split("/")
        if len(parts) != 3 or not all(SAFE_NAME.fullmatch(part) for part in parts):
            raise web.HTTPBadRequest(text="file must be SOURCE/DAY/NAME, as /api/files gives it in `path`")
        return await self.find(*parts)

    def _look(self, row: dict[str, Any]) -> Found | None:
        path = self.directory / row["source"] / row["day"] / row["name"]
        try:
            if not path.is_file() or path.resolve(strict=True) != path:
                return None  # a symbolic link on the way
            return Found(path, row, growing.measure(path, form_of(row)) if row["open"] else None)
        except OSError:
            return None

    def describe(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row for others: of a file that no line has closed, what it holds now. Blocks."""
        row = dict(row)
        row["path"] = f"{row['source']}/{row['day']}/{row['name']}"
        opened = bool(row.pop("open"))
        found = self._look({**row, "open": True}) if opened else None
        extent = found.extent if found else None
        row["recording"] = extent is not None and extent.live
        row["unfinished"] = opened and not row["recording"]
        if opened:
            row["bytes"] = extent.bytes if extent else 0
            row["samples"] = extent.samples if extent else None
            if extent and extent.samples is None:
                row["samples"] = self._counted(row)
        known = row["samples"] is not None
        row["duration"] = round(row["samples"] / row["rate"], 3) if known else None
        return row

    def _counted(self, row: dict[str, Any]) -> int | None:
        """Of a stream, as its recorder counts (MP3 and AAC would have to be read through)."""
        now = self.status().get("sources", {}).get(row["source"], {})
        same = now.get("file") == f"{row['day']}/{row['name']}"
        return int(now["file_samples"]) if same else None

    def status(self) -> dict[str, Any]:
        """What the recorder says of itself; empty when it says nothing. Blocks."""
        try:
            if abs(time.time() - self._status_file.stat().st_mtime) > growing.LIVE_SECONDS:
                return {}  # a recorder that was killed cannot take it away
            body = json.loads(self._status_file.read_text())
        except (OSError, ValueError):
            return {}
        return body if isinstance(body, dict) else {}

    def sources(self, index: Index) -> list[dict[str, Any]]:
        """As the index has them, with what grows now: who is recorded, and its bytes. Blocks."""
        found = {source["name"]: {**source, "recording": False} for source in index.sources()}
        for row in index.open_files():
            file, source = self.describe(row), found.get(row["source"])
            if source is not None:
                source["recording"] |= file["recording"]
                source["bytes"] += file["bytes"]
        return list(found.values())

    def disk(self) -> tuple[int, int]:
        """Bytes in all, and free for this user."""
        disk = os.statvfs(self.directory)
        return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize


def form_of(row: dict[str, Any]) -> Form:
    return Form(row["format"], row["rate"], row["channels"], row["bits"])


def number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """Raises HTTPBadRequest."""
    text = request.query.get(name)
    try:
        given = default if text is None else float(text)
    except ValueError:
        given = math.nan
    if not low <= given <= high:
        raise web.HTTPBadRequest(text=f"{name} is no number from {low:g} to {high:g}")
    return given


def reply(body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers={hdrs.CACHE_CONTROL: "no-store"})


def _unreadable(error: OSError) -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(text=f"the archive cannot be read: {error.strerror}")
