"""The agent over HTTP: /health, /metrics for Prometheus, and /session, the one thing that can be changed."""

from __future__ import annotations

import errno
import hmac
import json
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pinna.config import HTTP_TOKEN, HttpConfig, is_loopback
from pinna.errors import ConfigError, PortInUseError
from pinna.exposition import OPENMETRICS_CONTENT_TYPE

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SessionControl:
    """What /session tells, and what may be asked of it: an action's name to what does it."""

    tell: Callable[[], Mapping[str, object]] = dict
    actions: Mapping[str, Callable[[], object]] = field(default_factory=dict)


NO_SESSION = SessionControl()


class HealthServer:
    """Answers between `start` and `stop`.

    `health` gives the body of /health: its status is 200 if `connected` or `resting` is true in it, else 503.
    `metrics` gives OpenMetrics text. With a `token`, every request must bear it; without one, whoever changes
    the session must bear `session_token`, and nobody may if there is none either.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        health: Callable[[], Mapping[str, object]],
        metrics: Callable[[], bytes],
        token: str | None,
        session: SessionControl = NO_SESSION,
        session_token: str | None = None,
    ) -> None:
        """Raises ConfigError when others could reach the address and there is no token."""
        if token is None and not is_loopback(config.host):
            raise ConfigError(
                f"http.host is {config.host!r}, which others can reach, and no token protects it",
                hint=f"Give http.token_file (or {HTTP_TOKEN}), or set http.host to 127.0.0.1",
                permanent=True,
            )
        self.port = config.port
        """The port in use, once started (of interest with `http.port = 0`)."""
        self._config = config
        self._health = health
        self._metrics = metrics
        self._token = token
        self._session = session
        self._session_token = token or session_token
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Raises PortInUseError when the address cannot be had; nothing is left open then."""
        app = web.Application(middlewares=[_errors_as_json, _bearer(self._token)], client_max_size=1024)
        app.router.add_get("/health", self._answer_health)
        app.router.add_get("/metrics", self._answer_metrics)
        if self._session.actions:
            app.router.add_get("/session", self._answer_session)
            app.router.add_post("/session", self._change_session)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        except OSError as error:
            await self.stop()
            raise _cannot_listen(self._config, error) from error
        self.port = self._runner.addresses[0][1]
        log.info("http.listening", host=self._config.host, port=self.port)

    async def stop(self) -> None:
        """Close every connection. May be called at any time, also twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer_health(self, _request: web.Request) -> web.Response:
        body = self._health()
        well = body.get("connected") is True or body.get("resting") is True
        return _json(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, body)

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": OPENMETRICS_CONTENT_TYPE})

    async def _answer_session(self, _request: web.Request) -> web.Response:
        return _json(HTTPStatus.OK, self._session.tell())

    async def _change_session(self, request: web.Request) -> web.Response:
        """Body: {"action": …}. Never without a token: any page in a browser can post to loopback."""
        if self._session_token is None:
            return _json(
                HTTPStatus.FORBIDDEN,
                {"error": f"no token protects /session: give http.token_file (or {HTTP_TOKEN})"},
            )
        if not _bears(request, self._session_token):
            return _unauthorized()
        try:
            asked = json.loads(await request.read())
            act = self._session.actions[asked["action"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            wanted = ", ".join(self._session.actions)
            return _json(HTTPStatus.BAD_REQUEST, {"error": f'give {{"action": …}}, one of {wanted}'})
        changed = bool(act())
        return _json(HTTPStatus.OK, {"changed": changed, **self._session.tell()})


def _bearer(token: str | None) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is not None and not _bears(request, token):
            return _unauthorized()
        return await handler(request)

    return check


def _bears(request: web.Request, token: str) -> bool:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(credentials.strip().encode("utf-8", "replace"), token.encode())
    return scheme.lower() == "bearer" and same


def _unauthorized() -> web.Response:
    challenge = {"WWW-Authenticate": 'Bearer realm="pinna"'}
    return _json(HTTPStatus.UNAUTHORIZED, {"error": "a bearer token is needed"}, challenge)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _json(HTTPStatus(error.status), {"error": error.reason}, allow)
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
    # Python 3.13.0 tries each address that a name has, and then gives no errno.
    if isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, None):
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
