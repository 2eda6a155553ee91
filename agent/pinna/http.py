"""What the agent tells about itself over HTTP: /health, and /metrics for Prometheus."""

from __future__ import annotations

import errno
import hmac
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pinna.config import HTTP_TOKEN, HttpConfig, is_loopback
from pinna.errors import ConfigError, PinnaError, PortInUseError
from pinna.exposition import OPENMETRICS_CONTENT_TYPE

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve(
    config: HttpConfig,
    *,
    health: Callable[[], Mapping[str, object]],
    metrics: Callable[[], bytes],
    token: Callable[[], str | None],
) -> AsyncIterator[int]:
    """Answer while the block runs; yields the port (of interest with `port = 0`).

    `health` gives the body of /health: its status is 200 if `connected` is true in it, else 503. `metrics`
    gives OpenMetrics text. `token` is asked at the start and at each request, so a rotated one is picked up;
    with one, every request must bear it. Raises PortInUseError when the address cannot be had, ConfigError
    when others can reach it and there is no token, or the token cannot be read.
    """
    if token() is None and not is_loopback(config.host):
        raise ConfigError(
            f"http.host is {config.host!r}, which others can reach, and no token protects it",
            hint=f"Give http.token_file (or {HTTP_TOKEN}), or set http.host to 127.0.0.1",
            permanent=True,
        )

    async def answer_health(_request: web.Request) -> web.Response:
        body = health()
        return _json(HTTPStatus.OK if body.get("connected") is True else HTTPStatus.SERVICE_UNAVAILABLE, body)

    async def answer_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": OPENMETRICS_CONTENT_TYPE})

    app = web.Application(middlewares=[_errors_as_json, _bearer(token)], client_max_size=1024)
    app.router.add_get("/health", answer_health)
    app.router.add_get("/metrics", answer_metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, config.host, config.port).start()
        except OSError as error:
            raise _cannot_listen(config, error) from error
        port: int = runner.addresses[0][1]
        log.info("http.listening", host=config.host, port=port)
        yield port
    finally:
        await runner.cleanup()


def _bearer(token: Callable[[], str | None]) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        expected = token()
        if expected is not None:
            given = request.headers.get("Authorization", "")
            scheme, _, credentials = given.partition(" ")
            same = hmac.compare_digest(credentials.strip().encode("utf-8", "replace"), expected.encode())
            if scheme.lower() != "bearer" or not same:
                return _json(
                    HTTPStatus.UNAUTHORIZED,
                    {"error": "a bearer token is needed"},
                    {"WWW-Authenticate": 'Bearer realm="pinna"'},
                )
        return await handler(request)

    return check


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _json(HTTPStatus(error.status), {"error": error.reason}, allow)
    except PinnaError as error:
        log.warning("http.request_failed", cause=error.cause, hint=error.hint)
    except Exception:
        log.exception("http.request_crashed", path=request.path)
    return _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error, see the log"})


def _json(
    status: HTTPStatus, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> web.Response:
    text = json.dumps(_finite(body), default=str, indent=1) + "\n"
    return web.Response(
        text=text,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _finite(value: object) -> object:
    """JSON has no NaN and no infinity: they leave as null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cannot_listen(config: HttpConfig, error: OSError) -> PortInUseError:
    where = f"{config.host}:{config.port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return PortInUseError(
            f"http.host {config.host!r} is no address of this machine",
            hint="Set http.host to 127.0.0.1, or to an address that `ip address` lists",
            permanent=True,
        )
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"another program already listens on {where}",
            hint=f"Stop it, or set http.port to another port (`ss -ltnp sport = :{config.port}` names it: "
            "a second pinna, or the hub's own client?)",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PortInUseError(
            f"listening on {where} is not permitted: {error.strerror or error}",
            hint="Set http.port to 1024 or above",
            permanent=True,
        )
    return PortInUseError(
        f"listening on {where} failed: {error.strerror or error}",
        hint="Set http.host and http.port to others",
    )
