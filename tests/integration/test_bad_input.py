"""Mistakes of operators: one clear line with cause and cure, no traceback, an exit code of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from tests.support.programs import agent, hub
from tests.support.waiting import eventually

from pinna.demo.sound import VirtualSound
from pinna.errors import EXIT_CODES

SECRET = "s3cr3t-token-of-the-hub"


def pinna(sound: VirtualSound, *words: str, hidden: str = "", **variables: str) -> tuple[int, str]:
    """Exit code and everything printed. `hidden`: a library's file that cannot be loaded this time."""
    command = [sys.executable, "-m", "pinna", *words]
    if hidden:
        namespace = ["unshare", "--mount"] + ["--map-root-user"] * (os.geteuid() != 0)
        hide = f'for f in /usr/lib/*/{hidden}; do mount --bind /dev/null "$f"; done; exec "$@"'
        command = [*namespace, "sh", "-c", hide, "sh", *command]
    environment = {k: v for k, v in sound.environment.items() if not k.startswith(("PINNA_", "NAILA_"))}
    done = subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def assert_told(result: tuple[int, str], code: int, *words: str) -> None:
    returned, said = result
    assert returned == code, said
    assert "Traceback" not in said
    told = [line for line in said.splitlines() if line.startswith("pinna: ")]
    assert len(told) == 1, said
    for word in words:
        assert word in told[0]


@contextlib.contextmanager
def answering(
    status: int, body: bytes, kind: str = "text/html", *, pause_seconds: float = 0.0
) -> Iterator[str]:
    """An HTTP server that says the same to everyone, byte by byte if it pauses; yields its address."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # nobody need listen to the end
                for part in (body,) if not pause_seconds else map(bytes, zip(body, strict=True)):
                    self.wfile.write(part)
                    if over.wait(pause_seconds):
                        return

        do_GET = do_POST  # noqa: N815  (http.server's name)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            over.set()
            server.shutdown()
            thread.join()


RUN = (
    "run",
    "--config",
    "/dev/null",
    "--http-port",
    "0",
    "--audio-input",
    "virtual_mic",
    "--log-format",
    "json",
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[hub]\nulr = "http://hub"\n', ("line 2", "hub.ulr", "hub.url")),
        ("[hub]\nurl = 3\n", ("line 2", "hub.url is 3")),
        ('[audio]\nlatency_ms = "60"\n', ("audio.latency_ms", "whole number")),
        ("[audio\n", ("TOML",)),
    ],
)
def test_a_wrong_file(sound: VirtualSound, tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "pinna.toml"
    path.write_text(text)
    for verb in (("run", "--config", str(path)), ("config", "check", str(path))):
        assert_told(pinna(sound, *verb), 3, str(path), *words)


def test_no_such_device(sound: VirtualSound) -> None:
    with answering(503, b"") as url:  # whatever hub there may be on this machine
        result = pinna(sound, *RUN, "--hub-url", url, "--audio-input", "SH-04")
    assert_told(result, 5, "'SH-04'", "virtual_mic", "pinna devices")


def test_a_hub_that_is_none(sound: VirtualSound) -> None:
    with answering(200, b"<html>hello</html>") as url:
        assert_told(pinna(sound, *RUN, "--hub-url", url), 9, url, "hub.url")


def test_a_dead_token_is_told_and_not_shown(sound: VirtualSound) -> None:
    with answering(401, b"no") as url:
        result = pinna(sound, *RUN, "--hub-url", url, "--log-level", "debug", PINNA_HUB_TOKEN=SECRET)
    assert_told(result, 8, url, "hub.token_file")
    assert SECRET not in result[1]


def test_no_token_for_a_voice_service(sound: VirtualSound) -> None:
    call = ("--hub-dialect", "websocket", "--hub-url", "ws://127.0.0.1:9/v1/connect")
    assert_told(pinna(sound, *RUN, *call), 8, "there is no token", "hub.token_file")


def test_a_port_in_use(sound: VirtualSound) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_told(pinna(sound, *RUN, "--http-port", port), 10, port, "http.port")
        assert_told(pinna(sound, "hub", "--port", port), 10, port)


def test_no_portaudio(sound: VirtualSound) -> None:
    result = pinna(sound, *RUN, hidden="libportaudio.so.2.*")
    assert_told(result, 4, "PortAudio", "apt install libportaudio2")
    assert_told(pinna(sound, "devices", hidden="libportaudio.so.2.*"), 4, "libportaudio2")


def test_an_echo_canceller_that_cannot_start_is_not_left_out(sound: VirtualSound) -> None:
    assert_told(pinna(sound, *RUN, hidden="libspeexdsp.so.1.*"), 6, "libspeexdsp", "apt install")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("top", "--url", "http://127.0.0.1:9"), 7, ("no agent answers",)),
        (("hub", "say", "/nowhere/speech.wav"), 3, ("/nowhere/speech.wav",)),
        (("hub", "say"), 2, ("WAV",)),
        (("hub", "--host", "0.0.0.0", "--port", "0"), 3, ("token",)),
        (("demo", "--seconds", "0"), 2, ("1 to 3600",)),
    ],
)
def test_verbs_that_cannot(
    sound: VirtualSound, words: tuple[str, ...], code: int, told: tuple[str, ...]
) -> None:
    assert_told(pinna(sound, *words), code, *told)


def test_a_wrong_flag_and_the_help(sound: VirtualSound) -> None:
    code, said = pinna(sound, "run", "--nonsense")
    assert code == 2
    assert "--nonsense" in said
    code, said = pinna(sound, "--help")
    assert code == 0
    for number, meaning in EXIT_CODES.items():
        assert f"{number:3}  {meaning}" in said


def test_devices_and_configuration_for_scripts(sound: VirtualSound, tmp_path: Path) -> None:
    code, said = pinna(sound, "devices", "--json")
    assert code == 0
    assert {"virtual_mic", "virtual_speaker", "default"} <= {card["name"] for card in json.loads(said)}
    code, example = pinna(sound, "config", "example")
    path = tmp_path / "pinna.toml"
    path.write_text(example)
    assert pinna(sound, "config", "check", str(path))[0] == 0
    code, shown = pinna(
        sound, "config", "show", "--config", str(path), "--json", PINNA_HUB_URL="http://other:1"
    )
    assert json.loads(shown)["hub.url"] == {
        "value": "http://other:1",
        "source": "environment PINNA_HUB_URL",
        "help": json.loads(shown)["hub.url"]["help"],
    }


def test_as_a_service_it_stays_and_says_what_is_wrong(sound: VirtualSound, tmp_path: Path) -> None:
    with answering(401, b"no") as url, agent(sound, tmp_path, url, "--service") as device:
        link = eventually(
            lambda: part if (part := device.health()["components"]["link"])["state"] == "failed" else None
        )
        assert "refuses our credentials" in link["reason"]
        assert "hub.token_file" in link["hint"]
        eventually(
            lambda: device.health()["components"]["audio"]["state"] == "ok", what="the microphone works"
        )
    with agent(sound, tmp_path, url, "--service", "--audio-input", "SH-04", name="deaf") as device:
        audio = eventually(
            lambda: part if (part := device.health()["components"]["audio"])["state"] == "failed" else None
        )
        assert "SH-04" in audio["reason"]
        assert device.status() == 503


@pytest.mark.parametrize(
    ("body", "pause_seconds", "told"),
    [
        pytest.param(bytes(20_000_000), 0.0, "is longer than 256 KiB", id="20 MB"),
        pytest.param(b" " * 100_000, 0.05, "does not end within 10 s", id="dripping", marks=pytest.mark.full),
    ],
)
def test_an_answer_without_end_is_told_and_the_next_hub_is_used(
    sound: VirtualSound, tmp_path: Path, body: bytes, pause_seconds: float, told: str
) -> None:
    with contextlib.ExitStack() as stranger:
        url = stranger.enter_context(answering(200, body, "application/json", pause_seconds=pause_seconds))
        with agent(sound, tmp_path, url, "--service") as device:
            eventually(lambda: device.health()["audio"]["frames_captured"], what="the microphone works")
            process = psutil.Process(device.program.process.pid)
            memory = process.memory_info().rss
            eventually(lambda: device.health()["connection_failures"] >= 2, 40, what="it tries again")
            health = device.health()
            assert f"the answer of {url} {told}" in health["components"]["link"]["reason"]
            assert "hub.url" in health["components"]["link"]["hint"]
            assert health["components"]["audio"]["state"] == "ok"
            captured = health["audio"]["frames_captured"]
            eventually(lambda: device.health()["audio"]["frames_captured"] > captured, what="it goes on")
            assert process.memory_info().rss < memory + 10_000_000
            failures = [e for e in device.program.events("component.failed") if e["component"] == "link"]
            assert len(failures) == 1, "told once"
            stranger.close()
            with hub(sound, tmp_path, "listen", port=int(url.rpartition(":")[2])):
                device.wait_connected()
            assert "Traceback" not in device.program.said()


def test_a_hub_that_comes_later_is_waited_for(sound: VirtualSound, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with agent(sound, tmp_path, f"http://127.0.0.1:{port}") as device:
        eventually(lambda: device.health()["connection_failures"] >= 2, what="it tries")
        with hub(sound, tmp_path, "listen", port=port):
            device.wait_connected()
