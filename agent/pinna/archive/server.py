"""The archive over HTTP: the page, what it asks for, and the files with ranges."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
from pathlib import Path
from typing import Final

from aiohttp import web

from pinna.archive.access import guard, is_loopback
from pinna.archive.drawing import Drawing
from pinna.archive.index import PAGE
from pinna.archive.library import Library, number, reply
from pinna.archive.playing import Playing
from pinna.errors import ConfigError, PortInUseError, StorageError
from pinna.page import add_page

MOST_FILES: Final = 1000
IDLE_SECONDS: Final = 30.0
"""A connection without a whole request for so long is closed, also one that never made any."""


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
        self._host, self._port, self._token = host, port, token
        self._library = Library(directory, status_file)
        self._runner: web.AppRunner | None = None
        self.address = ""

    async def __aenter__(self) -> Archive:
        """Raises PortInUseError."""
        self._runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=1.0, keepalive_timeout=IDLE_SECONDS
        )
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
        with contextlib.suppress(web.HTTPException):  # whoever asks is told
            await self._library.ask(lambda index: None)  # begins to read, which may take a while
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        await self._library.close()

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
        Drawing(self._library).add_to(app)
        Playing(self._library).add_to(app)
        app.on_response_prepare.append(_harden)
        return app

    async def _sources(self, _request: web.Request) -> web.Response:
        """`reading`: a large archive has not been read to its end yet, since this server began."""
        sources = await self._library.ask(self._library.sources)
        return reply({"sources": sources, "reading": not self._library.whole})

    async def _files(self, request: web.Request) -> web.Response:
        source, day = request.query.get("source", ""), request.query.get("day", "")
        limit = int(number(request, "limit", PAGE, 1, MOST_FILES))
        before = number(request, "before", math.inf, 0, math.inf)
        older = None if before == math.inf else before
        describe = self._library.describe
        files = await self._library.ask(
            lambda index: [describe(row) for row in index.files(source, day, older, limit)]
        )
        return reply({"files": files, "next": files[-1]["at"] if len(files) == limit else None})

    async def _gaps(self, request: web.Request) -> web.Response:
        source, day = request.query.get("source", ""), request.query.get("day", "")
        limit = int(number(request, "limit", PAGE, 1, MOST_FILES))
        return reply({"gaps": await self._library.ask(lambda index: index.gaps(source, day, limit))})

    async def _status(self, _request: web.Request) -> web.Response:
        status = await asyncio.to_thread(self._library.status)
        return reply({"running": bool(status), **status})

    async def _storage(self, _request: web.Request) -> web.Response:
        sources = await self._library.ask(self._library.sources)
        total, free = await asyncio.to_thread(self._library.disk)
        return reply(
            {
                "total_bytes": total,
                "free_bytes": free,
                "archive_bytes": sum(source["bytes"] for source in sources),
                "sources": {source["name"]: source["bytes"] for source in sources},
            }
        )


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
