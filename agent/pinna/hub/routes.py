"""The hub over HTTP: two signalling dialects for devices, health, and the page with what it asks for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from aiohttp import hdrs, web

from pinna.hub.access import guard, shows
from pinna.hub.options import DEVICE_ID_RULE, HubOptions, valid_device_id
from pinna.hub.peer import NegotiationError
from pinna.page import add_page

MAX_BODY_BYTES: Final = 2 * 1024 * 1024
EVENT_SECONDS: Final = 0.1  # between two readings of the page's meters

_SDP: Final = "application/sdp"


class Full(Exception):  # noqa: N818  a state of the hub rather than a fault
    """No room for another device."""


class Switchboard(Protocol):
    """What the routes need of the hub."""

    async def connect(self, device: str, offer: str) -> tuple[str, str]:
        """(answer, session key). Ends the device's earlier session first. Raises NegotiationError, Full."""

    def has(self, device: str, key: str) -> bool:
        """Whether there is this session."""

    async def disconnect(self, device: str) -> None:
        """End the device's session, which must be there."""

    async def listen(self, device: str, offer: str) -> str:
        """The answer to a listener. Raises KeyError (no such device), NegotiationError, Full."""

    def health(self, *, names: bool) -> dict[str, Any]:
        """`names`: with the devices."""

    async def closing(self, seconds: float) -> bool:
        """Wait that long; True at once when the hub stops."""


def application(options: HubOptions, hub: Switchboard) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[guard(options.token)])
    add_page(app, "pinna.hub")
    app.router.add_get("/health", _health(options, hub))
    app.router.add_get("/events", _events(hub))
    app.router.add_post("/connect", _connect(hub))
    app.router.add_post("/listen/{device}", _listen(hub))
    whip = _Whip(hub)
    app.router.add_post("/whip/{device}", whip.post)
    app.router.add_options("/whip/{device}", whip.options)
    app.router.add_route("*", "/whip/{device}/{key}", whip.session, name="whip")
    if options.voice:
        from pinna.hub.calls import PATH, Calls  # noqa: PLC0415  (needs an extra)

        calls = Calls(options.token)
        app.router.add_get(PATH, calls.handle)
        app.on_shutdown.append(calls.close)
    if options.token:
        app.on_response_prepare.append(_allow_other_origins)
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _health(options: HubOptions, hub: Switchboard) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(hub.health(names=not options.token or shows(request, options.token)))

    return handler


def _events(hub: Switchboard) -> Handler:
    """Health as server-sent events, for as long as the page is open."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_TYPE: "text/event-stream"}
        )
        await response.prepare(request)
        try:
            while True:
                event = json.dumps(hub.health(names=True), separators=(",", ":"))
                await response.write(f"data: {event}\n\n".encode())
                if await hub.closing(EVENT_SECONDS):
                    break
        except ConnectionError:  # the page was closed
            pass
        return response

    return handler


async def _json_fields(request: web.Request, *names: str) -> list[str]:
    """The named string fields of a JSON object. Raises 413, 415, 400 and 422 with plain text."""
    media_type = request.content_type
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise web.HTTPUnsupportedMediaType(text="expected Content-Type: application/json")
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise web.HTTPUnprocessableEntity(text="expected a JSON object")
    for name in names:
        if not isinstance(body.get(name), str):
            fault = "is not a string" if name in body else "is missing"
            raise web.HTTPUnprocessableEntity(text=f"the field `{name}` {fault}")
    return [body[name] for name in names]


def _device_id(text: str) -> str:
    if not valid_device_id(text):
        raise web.HTTPUnprocessableEntity(text=DEVICE_ID_RULE)
    return text


def _connect(hub: Switchboard) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        device, offer = await _json_fields(request, "device_id", "sdp")
        try:
            answer, _ = await hub.connect(_device_id(device), offer)
        except NegotiationError as error:
            return web.json_response({"error": str(error)}, status=500)
        except Full as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({"sdp": answer})

    return handler


def _listen(hub: Switchboard) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        (offer,) = await _json_fields(request, "sdp")
        try:
            answer = await hub.listen(_device_id(request.match_info["device"]), offer)
        except KeyError:
            return web.json_response({"error": "no such device is connected"}, status=404)
        except NegotiationError as error:
            return web.json_response({"error": str(error)}, status=500)
        except Full as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({"sdp": answer})

    return handler


class _Whip:
    """WebRTC-HTTP ingestion, RFC 9725, without trickle ICE and restarts: hence 405 to PATCH (4.3.2)."""

    def __init__(self, hub: Switchboard) -> None:
        self._hub = hub

    async def post(self, request: web.Request) -> web.Response:
        device = _device_id(request.match_info["device"])
        if request.content_type != _SDP:
            raise web.HTTPUnsupportedMediaType(
                text=f"expected Content-Type: {_SDP}", headers={"Accept-Post": _SDP}
            )
        try:
            offer = (await request.read()).decode()
            answer, key = await self._hub.connect(device, offer)
        except (NegotiationError, UnicodeDecodeError) as error:
            raise web.HTTPBadRequest(text=f"the offer cannot be answered: {error}") from error
        except Full as error:
            raise web.HTTPServiceUnavailable(text=str(error), headers={hdrs.RETRY_AFTER: "5"}) from error
        location = request.app.router["whip"].url_for(device=device, key=key)
        return web.Response(
            status=201, text=answer, content_type=_SDP, headers={hdrs.LOCATION: str(location)}
        )

    async def options(self, _request: web.Request) -> web.Response:
        return web.Response(status=204, headers={hdrs.ALLOW: "OPTIONS,POST", "Accept-Post": _SDP})

    async def session(self, request: web.Request) -> web.Response:
        """The session's own address, of every method: a device may ask here whether it still exists."""
        device = _device_id(request.match_info["device"])
        allowed = [hdrs.METH_DELETE, hdrs.METH_OPTIONS]
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers={hdrs.ALLOW: ",".join(allowed)})
        if not self._hub.has(device, request.match_info["key"]):
            raise web.HTTPNotFound(text="there is no such session")
        if request.method != hdrs.METH_DELETE:
            raise web.HTTPMethodNotAllowed(request.method, allowed)
        await self._hub.disconnect(device)
        return web.Response()


async def _allow_other_origins(request: web.Request, response: web.StreamResponse) -> None:
    """CORS for WHIP. Only with a token: it is what other sites' pages do not have."""
    if request.path.startswith("/whip/"):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Location"
        if request.method == hdrs.METH_OPTIONS:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = response.headers.get(hdrs.ALLOW, "")
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Authorization, Content-Type"
