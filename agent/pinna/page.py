"""The page of a package, served as it lies in its folder `page`: no build step, nothing from elsewhere."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath
from typing import Final

from aiohttp import web

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def add_page(app: web.Application, package: str) -> None:
    """index.html at /, the other files beside it by their names."""
    for file in resources.files(package).joinpath("page").iterdir():
        path = "/" if file.name == "index.html" else f"/{file.name}"
        _add(app, path, file.read_bytes(), _TYPES[PurePath(file.name).suffix])


def _add(app: web.Application, path: str, body: bytes, content_type: str) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=HEADERS)

    app.router.add_get(path, handler)
