"""Who may look: who shows the token, or, without one, only this machine itself and our own page."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware


def guard(token: str) -> Middleware:
    """Lets nobody else through. The token comes as a bearer's, or as the password a browser asks for.

    Without a token the server listens on loopback only, where any web page open in a browser could reach it
    too, by a name that its owner points here. Hence Host must be a loopback name.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and not _shows(request.headers.get(hdrs.AUTHORIZATION, ""), token):
            raise web.HTTPUnauthorized(
                text="this archive asks for a password (any user name) or a bearer token",
                headers={hdrs.WWW_AUTHENTICATE: 'Basic realm="pinna archive", charset="UTF-8"'},
            )
        if not token and not is_loopback(_host(request.host)):
            raise web.HTTPForbidden(text="without a token this archive answers to loopback names only")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none"):
            raise web.HTTPForbidden(text="this archive answers to no other site's pages")
        return await handler(request)

    return middleware


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _shows(header: str, token: str) -> bool:
    """Takes equally long whatever is given."""
    scheme, _, given = header.partition(" ")
    shown = given.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            shown = b""
    right = hmac.compare_digest(shown, token.encode())
    return right and scheme.lower() in ("basic", "bearer")
