"""Logging: for people on a terminal, JSON lines (for journald and what collects it) otherwise.

Everything goes to standard error as one stream: our events through structlog, and what aiohttp, aioice and
aiortc say through `logging`, from WARNING up. Secrets are masked on the way out, whoever logged them.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from pinna.config import LogConfig

_SECRET_KEY = re.compile(
    r"token|authorization|password|passwd|secret|credential|cookie|api_?key", re.IGNORECASE
)
_SECRET_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"), r"\1 ***"),
    (re.compile(r"(?<=://)[^\s/@]+@"), "***@"),  # user name and password of an address
    (re.compile(r"(?<=ice-pwd:)\S+"), "***"),  # of a session description
)


def configure(config: LogConfig, stream: TextIO | None = None) -> None:
    """Set up both worlds anew; `stream` is standard error unless given. May be called again."""
    out = _standard_error() if stream is None else stream
    console = config.format == "console" or (config.format == "auto" and _is_terminal(out))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # module-level loggers follow a later `configure`
    )
    handler = _Handler(out)
    render = [_console(colors=_is_terminal(out))] if console else [_lead, structlog.processors.JSONRenderer()]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # before masking: a traceback may quote a secret
                mask_secrets,
                *render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("pinna").setLevel(config.level.upper())


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of secret-sounding keys, and bearer strings and the like within any text, by ***."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: object) -> object:
    if isinstance(value, str | int) and _SECRET_KEY.search(key) and not key.endswith("_file"):
        return "***"
    if isinstance(value, str):
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, bytes):
        return _masked(key, value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {inner: _masked(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(key, item) for item in value]
    return value if isinstance(value, bool | int | float | None) else _masked(key, str(value))


def _lead(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The same with what a reader looks for first in front."""
    first = ("timestamp", "level", "logger", "event")
    return {**{key: event[key] for key in first if key in event}, **event}


def _console(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _standard_error() -> TextIO:
    """A way of our own to standard error: sounddevice closes descriptor 2 to all while PortAudio starts.

    That takes a second or two, each time a card is looked for, and what is logged meanwhile would be lost.
    """
    try:
        return _copy_of_standard_error() if sys.stderr.fileno() == 2 else sys.stderr
    except (OSError, ValueError, AttributeError):  # closed, replaced, or None
        return sys.stderr


@cache
def _copy_of_standard_error() -> TextIO:
    return os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (ValueError, AttributeError):  # closed, or None (a process started without standard error)
        return False


class _Handler(logging.StreamHandler[TextIO]):
    """Drops what cannot be written: a log nobody reads any more (a closed pipe) must not stop us."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        pass
