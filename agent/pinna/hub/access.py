"""Who may ask: whoever shows the token, or, without one, only this machine itself and the hub's own page."""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from pinna.hub.options import is_loopback

OPEN_PATHS: Final = frozenset({"/", "/page.js", "/page.css", "/icon.svg", "/health", "/v1/connect"})
"""The page without its data; health, which tells strangers no device's name; and calls, which bear the token
in their query."""


def shows(request: web.Request, token: str) -> bool:
    """Whether the request carries `Authorization: Bearer <token>`; takes equally long whatever is given."""
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return right and scheme.lower() == "bearer"


def _network_location(url: str) -> tuple[str, str]:
    """(host:port, host) of a URL; empty for nonsense."""
    try:
        parts = urlsplit(url)
        return parts.netloc, parts.hostname or ""
    except ValueError:
        return "", ""


def guard(token: str) -> Middleware:
    """The middleware that lets nobody else through.

    Without a token the hub listens on loopback only, where any web page open in a browser could reach it
    too, by its address or by a name that its owner points here. Hence Host must be a loopback name and
    Origin, which browsers send with every cross-site request that matters, must be ours.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token:
            preflight = request.method == hdrs.METH_OPTIONS
            if not (preflight or request.path in OPEN_PATHS or shows(request, token)):
                raise web.HTTPUnauthorized(
                    text="this hub asks for a token: Authorization: Bearer <token>",
                    headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
                )
        else:
            if not is_loopback(_network_location(f"//{request.host}")[1]):
                raise web.HTTPForbidden(text="without a token this hub answers to loopback names only")
            origin = request.headers.get(hdrs.ORIGIN)
            if origin is not None and _network_location(origin)[0] != request.host:
                raise web.HTTPForbidden(text="without a token this hub answers to no other site's pages")
        return await handler(request)

    return middleware
