"""A live view of a running agent, drawn from its /health alone: it works over ssh and port forwarding too."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from pinna.errors import HubAnswerError, HubRefusedError, HubUnreachableError, PinnaError

REFRESH_SECONDS: Final = 0.5
TIMEOUT_SECONDS: Final = 3.0
MAX_BODY_BYTES: Final = 1 << 20
FLOOR_DBFS: Final = -72.0
BAR_WIDTH: Final = 32

Body = Mapping[str, Any]


class Screen(Protocol):
    """Something that shows the latest drawing."""

    def update(self, renderable: Any, *, refresh: bool = False) -> None: ...


def fetch(url: str, token: str | None = None) -> dict[str, Any]:
    """The body of GET {url}/health, whatever its status says of the connection. Raises PinnaError."""
    body = _ask(url, "/health", token)
    if "mic_frames_sent" not in body:
        raise _stranger(url)
    return body


def session(url: str, action: str | None, token: str | None = None) -> dict[str, Any]:
    """The body of {url}/session, after `action` if there is one. Raises PinnaError."""
    body = _ask(url, "/session", token, None if action is None else json.dumps({"action": action}).encode())
    if "state" not in body:
        raise _stranger(url)
    return body


def _ask(url: str, path: str, token: str | None, data: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(f"{url.rstrip('/')}{path}", data)  # noqa: S310  (the operator's own address)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  (as above)
            text = answer.read(MAX_BODY_BYTES)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            cause = f"the agent at {url} asks for a token"
            if error.code == 403:
                cause = f"the agent at {url} has no token, and without one nobody changes its session"
            raise HubRefusedError(cause, hint="Set http.token_file or PINNA_HTTP_TOKEN") from error
        text = error.read(MAX_BODY_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise HubUnreachableError(
            f"no agent answers at {url} ({reason})",
            hint="Is it running (`systemctl status pinna-agent`)? Its address is http.host and http.port",
        ) from error
    try:
        body = json.loads(text)
    except ValueError as error:
        raise _stranger(url) from error
    if not isinstance(body, dict):
        raise _stranger(url)
    return body


def _stranger(url: str) -> HubAnswerError:
    return HubAnswerError(
        f"what answers at {url} is not a Pinna agent", hint="Give the agent's address with --url"
    )


def live() -> AbstractContextManager[Screen]:
    """A screen that is redrawn in place. Raises PinnaError when the `view` extra is not installed."""
    _need_rich()
    from rich.live import Live  # noqa: PLC0415  (an extra)

    return Live(auto_refresh=False, transient=True)


def watch(read: Callable[[], Body]) -> None:
    """Redraw until interrupted. Raises what the first `read` raises; later the agent may restart."""
    read()
    with live() as screen:
        while True:
            try:
                screen.update(draw(read()), refresh=True)
            except HubUnreachableError as error:
                screen.update(f"{error.cause}\n{error.hint}", refresh=True)
            time.sleep(REFRESH_SECONDS)


def show(body: Body) -> None:
    """Print the picture once."""
    _need_rich()
    from rich.console import Console  # noqa: PLC0415  (an extra)

    Console().print(draw(body))


def draw(agent: Body, hub: Body | None = None) -> Any:
    """One picture of an agent, and of what the hub says of it if that is known."""
    from rich.table import Table  # noqa: PLC0415  (an extra)

    audio, echo, link = agent["audio"], agent["echo"], agent["link"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    state = "connected" if agent["connected"] else "not connected"
    colour = "green" if agent["connected"] else "red"
    table.add_row(agent["device_id"], f"[{colour}]{state}[/], up {agent['uptime_seconds']} s")
    if (asked := agent.get("session", {"mode": "always"}))["mode"] != "always" or asked["state"] == "muted":
        table.add_row(
            "session", f"{asked['state']} for {asked['for_seconds']:.0f} s, by {_plain(asked['by'])}"
        )
    for name, component in agent["components"].items():
        if component["state"] not in ("ok", "stopped"):
            reason = " ".join(str(component.get(key, "")) for key in ("reason", "hint"))
            table.add_row(name, f"[yellow]{component['state']}[/] {_plain(reason)}")
    table.add_row("microphone", _meter(audio["microphone_dbfs"]))
    table.add_row("to the hub", _meter(audio["clean_dbfs"]))
    table.add_row("speaker", _meter(audio["speaker_dbfs"]))
    table.add_row(
        "echo",
        f"{echo['engine']}  ERLE {_number(echo.get('erle_db'))} dB  "
        f"delay {_number(echo.get('delay_ms'))} ms  drift {_number(echo.get('drift_ppm'))} ppm",
    )
    table.add_row(
        "frames",
        f"sent {agent['mic_frames_sent']}  dropped {agent['mic_frames_dropped']}  "
        f"received {agent['tts_frames_received']}  played {agent['tts_frames_played']}",
    )
    table.add_row(
        "link",
        f"concealed {link['frames_concealed']}  recovered {link['frames_recovered']}  "
        f"sessions {agent['connections']}  failures {agent['connection_failures']}",
    )
    table.add_row(
        "callback",
        f"{agent['audio_callback_duration_ms']:.2f} ms  p99 {_number(audio['callback_ms_p99'], 2)} ms  "
        f"overruns {audio['callback_overruns']}  DSP p99 {_number(audio['dsp_ms_p99'], 2)} ms",
    )
    if hub is not None:
        latency = hub.get("latency_ms") or {}
        table.add_row(
            "at the hub",
            f"frames {hub['frames_received']}  "
            f"latency p50 {_number(latency.get('p50'))} ms, p99 {_number(latency.get('p99'))} ms",
        )
    return table


def _meter(level: float) -> str:
    filled = round(BAR_WIDTH * min(1.0, max(0.0, 1 - level / FLOOR_DBFS)))
    colour = "red" if level > -3 else "green"
    return f"[{colour}]{'█' * filled}[/][dim]{'░' * (BAR_WIDTH - filled)}[/] {level:6.1f} dBFS"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(text: str) -> str:
    """Brackets are markup to rich, and a hub's words are a stranger's."""
    from rich.markup import escape  # noqa: PLC0415  (an extra)

    return escape(text)


def _need_rich() -> None:
    try:
        import rich  # noqa: F401, PLC0415  (an extra: is it there?)
    except ImportError as error:
        raise PinnaError(
            "the live view needs the package `rich`", hint="Install it: pip install 'pinna[view]'"
        ) from error
