"""The archive over HTTP: the page, what it asks for, and the files with ranges."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import hdrs, web

from pinna.archive.access import guard, is_loopback
from pinna.archive.index import PAGE, Index
from pinna.errors import ConfigError, PortInUseError, StorageError
from pinna.page import add_page
from pinna.recorder import formats
from pinna.recorder.formats import Form

_TYPES: Final = {
    **{".wav": "audio/wav", ".flac": "audio/flac", ".opus": "audio/ogg", ".ogg": "audio/ogg"},
    **{".oga": "audio/ogg", ".mp3": "audio/mpeg", ".aac": "audio/aac"},
}
MOST_FILES: Final = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


class Archive:
    """Use as an async context manager; `address` is where it listens then."""

    def __init__(self, directory: Path, status_file: Path, host: str, port: int, token: str) -> None:
        """Raises ConfigError when it would be open to the network, StorageError when there is no archive."""
        if not token and not is_loopback(host):
            raise ConfigError(
                f"the archive would listen on {host}, open to everyone on the network",
                hint="Give --token-file with a password that all must show, or let it listen on 127.0.0.1",
                permanent=True,
            )
        if not directory.is_dir():
            raise StorageError(f"there is no archive in {directory}", hint="Give the recorder's `directory`")
        self._directory = directory.resolve()
        self._status_file = status_file
        self._host, self._port, self._token = host, port, token
        self._index = Index(self._directory)
        self._turn = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._first: asyncio.Task[Any] | None = None
        self.address = ""

    async def __aenter__(self) -> Archive:
        """Raises PortInUseError."""
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            taken = error.errno == errno.EADDRINUSE
            raise PortInUseError(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror or error}",
                hint="Give --port another number" if taken else "Give --host and --port others",
            ) from error
        host, port = self._runner.addresses[0][:2]
        self._first = asyncio.create_task(
            self._ask(lambda index: None)
        )  # large archives take a while to read
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._first is not None:
            await asyncio.gather(self._first, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[guard(self._token)])
        add_page(app, "pinna.archive")
        for path, answer in (
            ("/api/sources", self._sources),
            ("/api/files", self._files),
            ("/api/gaps", self._gaps),
            ("/api/status", self._status),
            ("/api/storage", self._storage),
        ):
            app.router.add_get(path, answer)
        app.router.add_get("/stream/{source}/{day}/{name}", self._play)
        app.router.add_get("/download/{source}/{day}/{name}", self._download)
        app.on_response_prepare.append(_harden)
        return app

    async def _ask(self, question: Callable[[Index], Any]) -> Any:
        """The index, in a thread: the first time it reads every manifest."""

        def answer() -> Any:
            self._index.refresh()
            return question(self._index)

        async with self._turn:
            try:
                return await asyncio.to_thread(answer)
            except OSError as error:
                raise web.HTTPServiceUnavailable(
                    text=f"the archive cannot be read: {error.strerror}"
                ) from error

    async def _sources(self, _request: web.Request) -> web.Response:
        return _json({"sources": await self._ask(lambda index: index.sources())})

    async def _files(self, request: web.Request) -> web.Response:
        source, day = request.query.get("source", ""), request.query.get("day", "")
        limit = int(_number(request, "limit", PAGE, 1, MOST_FILES))
        before = _number(request, "before", math.inf, 0, math.inf)
        older = None if before == math.inf else before

        def described(index: Index) -> list[dict[str, Any]]:
            found = index.files(source, day, older, limit)
            for file in found:
                self._describe(file)
            return found

        files = await self._ask(described)
        return _json({"files": files, "next": files[-1]["at"] if len(files) == limit else None})

    def _describe(self, file: dict[str, Any]) -> None:
        """Blocks. Of a file that is still being written, what it holds now."""
        path = self._directory / file["source"] / file["day"] / file["name"]
        file["recording"] = bool(file.pop("open"))
        if file["recording"]:
            try:
                file["bytes"] = path.stat().st_size
                form = Form(file["format"], file["rate"], file["channels"], file["bits"])
                if file["format"] in ("wav", "flac", "opus"):
                    file["samples"] = formats.content(path, form).samples
                else:
                    file["samples"] = None  # only its end will tell
            except OSError:
                file["samples"] = None
        known = file["samples"] is not None
        file["duration"] = round(file["samples"] / file["rate"], 3) if known else None
        file["path"] = f"{file['source']}/{file['day']}/{file['name']}"

    async def _gaps(self, request: web.Request) -> web.Response:
        source, day = request.query.get("source", ""), request.query.get("day", "")
        limit = int(_number(request, "limit", PAGE, 1, MOST_FILES))
        return _json({"gaps": await self._ask(lambda index: index.gaps(source, day, limit))})

    async def _status(self, _request: web.Request) -> web.Response:
        """What the recorder says of itself; not running when it says nothing."""
        try:
            body = json.loads(await asyncio.to_thread(self._status_file.read_text))
        except (OSError, ValueError):
            return _json({"running": False})
        return _json({"running": True, **body})

    async def _storage(self, _request: web.Request) -> web.Response:
        disk = os.statvfs(self._directory)
        sources = await self._ask(lambda index: index.sources())
        return _json(
            {
                "total_bytes": disk.f_blocks * disk.f_frsize,
                "free_bytes": disk.f_bavail * disk.f_frsize,
                "archive_bytes": sum(source["bytes"] for source in sources),
                "sources": {source["name"]: source["bytes"] for source in sources},
            }
        )

    async def _play(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "inline")

    async def _download(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "attachment")

    async def _file(self, request: web.Request, disposition: str) -> web.StreamResponse:
        """Only what the manifests name is served, so nothing in a request ever becomes a path."""
        wanted = (request.match_info["source"], request.match_info["day"], request.match_info["name"])
        found = await self._ask(lambda index: index.file(*wanted))
        path = self._directory.joinpath(*wanted) if found else None
        if path is None or not await asyncio.to_thread(_is_plain_file, path, self._directory):
            raise web.HTTPNotFound(text="there is no such recording")
        return web.FileResponse(
            path,
            headers={
                hdrs.CONTENT_TYPE: _TYPES.get(path.suffix, "application/octet-stream"),
                hdrs.CONTENT_DISPOSITION: f'{disposition}; filename="{path.name}"',
                hdrs.CACHE_CONTROL: "no-cache",
            },
        )


def _is_plain_file(path: Path, directory: Path) -> bool:
    """No symbolic link on the way."""
    try:
        return path.is_file() and path.resolve(strict=True) == path and directory in path.parents
    except OSError:
        return False


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"


def _json(body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers={hdrs.CACHE_CONTROL: "no-store"})


def _number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    text = request.query.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise web.HTTPBadRequest(text=f"{name} is no number from {low} to {high}")
    return number
