from __future__ import annotations

import io
import json
import logging
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog

from pinna.config import LogConfig
from pinna.logs import configure

log = structlog.get_logger("pinna.somewhere")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("pinna")
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    configure(LogConfig(level="debug"), stream)
    return stream


def test_one_json_object_a_line_where_there_is_no_terminal(out: io.StringIO) -> None:
    log.info("link.connected", hub="http://hub:8080", frames=3, connected=True, path=Path("/etc"))
    log.debug("two\nlines", text="ü\udc80")
    first, second = lines(out)
    assert list(first)[:4] == ["timestamp", "level", "logger", "event"]
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "pinna.somewhere",
        "event": "link.connected",
        "hub": "http://hub:8080",
        "frames": 3,
        "connected": True,
        "path": "/etc",
    }
    assert second["event"] == "two\nlines"


def test_what_libraries_say_goes_the_same_way_from_warning_up(out: io.StringIO) -> None:
    for name in ("aiohttp.server", "aioice.ice", "aiortc.rtcpeerconnection"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("%s of %d", "trouble", 3)
    entries = lines(out)
    assert [entry["event"] for entry in entries] == ["trouble of 3"] * 3
    assert [entry["logger"].partition(".")[0] for entry in entries] == ["aiohttp", "aioice", "aiortc"]
    assert all(entry["level"] == "warning" for entry in entries)


def test_the_level_is_ours_alone() -> None:
    out = io.StringIO()
    configure(LogConfig(level="error"), out)
    log.warning("quiet")
    log.error("loud")
    logging.getLogger("aioice").warning("library")
    assert [entry["event"] for entry in lines(out)] == ["loud", "library"]


def test_a_module_level_logger_follows_a_later_configure(out: io.StringIO) -> None:
    log.info("before")
    later = io.StringIO()
    configure(LogConfig(level="info"), later)
    log.info("after")
    log.debug("no more")
    assert [entry["event"] for entry in lines(out)] == ["before"]
    assert [entry["event"] for entry in lines(later)] == ["after"]


@pytest.mark.parametrize("config", [LogConfig("debug", "json"), LogConfig("debug", "console")])
def test_no_secret_gets_out(config: LogConfig) -> None:
    out = io.StringIO()
    configure(config, out)
    log.info(
        "sent Authorization: Bearer s3cret-1",
        token="s3cret-2",
        headers={"Authorization": "Bearer s3cret-3", "Cookie": "s3cret-4"},
        args=["--x", "bearer s3cret-5"],
        url="https://user:s3cret-6@hub/",
        password=b"s3cret-7",
        sdp="a=ice-pwd:s3cret-8\r\n",
        api_key=53735,
        token_file="/run/token",
    )
    logging.getLogger("aiohttp").warning("headers: %r", {"Authorization": "Bearer s3cret-9"})
    try:
        raise ValueError("bad header 'Bearer s3cret-10'")
    except ValueError:
        log.exception("link.crashed")
    text = out.getvalue()
    assert "s3cret" not in text
    assert "53735" not in text
    assert "/run/token" in text
    assert "ValueError" in text


def test_a_traceback_is_one_field(out: io.StringIO) -> None:
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        log.warning("component.crashed", exc_info=error)
    log.warning("component.failed", exc_info=None)
    first, second = lines(out)
    assert first["exception"].splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "exception" not in second


def test_people_at_a_terminal_get_colours_and_no_json() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        configure(LogConfig(), terminal)
        log.info("link.connected", hub="hub")
        text = os.read(ours, 4096).decode()
    os.close(ours)
    assert "link.connected" in text
    assert "\x1b[" in text
    assert "{" not in text


def test_console_without_a_terminal_has_no_colours() -> None:
    out = io.StringIO()
    configure(LogConfig(format="console"), out)
    log.info("metrics | mic_sent=500 connected=true", mic_sent_per_second=50.0)
    assert "metrics | mic_sent=500 connected=true" in out.getvalue()
    assert "mic_sent_per_second=50.0" in out.getvalue()
    assert "\x1b[" not in out.getvalue()


def broken_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [broken_pipe, closed], ids=["broken pipe", "closed"])
def test_a_log_nobody_reads_stops_nothing(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stream = make()
    configure(LogConfig(), stream)
    for _ in range(3):
        log.warning("still here")
        logging.getLogger("aiortc").error("still here")
    assert capsys.readouterr().err == ""
    if not stream.closed:
        with pytest.raises(BrokenPipeError):
            stream.close()


def test_a_process_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    configure(LogConfig())
    log.warning("still here")
