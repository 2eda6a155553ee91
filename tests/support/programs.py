"""The real programs as processes: `pinna run`, `pinna hub` and the room, each ended by its id."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

from pinna.demo.sound import MICROPHONE, SPEAKER, VirtualSound

_TOKENS = {"PINNA_HUB_TOKEN", "PINNA_HTTP_TOKEN"}


class Program:
    """A running `python -m MODULE …`; what it printed is in `out` and `err` (files)."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], folder: Path, name: str) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        ours = ("PINNA_", "NAILA_")
        clean = {k: v for k, v in environment.items() if not k.startswith(ours) or k in _TOKENS}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def said(self) -> str:
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The JSON lines printed so far, of one event if named."""
        found = []
        for line in self.said().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and (not name or entry.get("event") == name):
                    found.append(entry)
        return found

    def stop(self, sig: signal.Signals = signal.SIGTERM, seconds: float = 10.0) -> int:
        """End it and return its exit code; a program that does not end fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end in {seconds:g} s after {sig.name}:\n{self.said()}") from None


@contextlib.contextmanager
def program(
    arguments: list[str], environment: Mapping[str, str], folder: Path, name: str
) -> Iterator[Program]:
    running = Program(arguments, environment, folder, name)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


class Agent:
    """A running `pinna run`, and what its /health says."""

    def __init__(self, running: Program) -> None:
        self.program = running
        self.port = 0

    def wait_listening(self) -> None:
        def listening() -> Any:
            assert self.program.process.poll() is None, self.program.said()
            return self.program.events("http.listening")

        self.port = eventually(listening, what="the agent listens")[0]["port"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> dict[str, Any]:
        return get_json(f"{self.url}/health")[1]

    def status(self) -> int:
        return get_json(f"{self.url}/health")[0]

    def wait_connected(self, seconds: float = 20.0) -> dict[str, Any]:
        eventually(lambda: self.health()["connected"], seconds, what=f"connected\n{self.program.said()}")
        return self.health()


@contextlib.contextmanager
def agent(
    sound: VirtualSound, folder: Path, hub_url: str, *flags: str, name: str = "agent", wait: bool = True
) -> Iterator[Agent]:
    settings = {
        "--device-id": name,
        "--hub-url": hub_url,
        "--hub-reconnect-seconds": "0.2",
        "--hub-reconnect-max-seconds": "0.4",
        "--audio-input": MICROPHONE,
        "--audio-output": SPEAKER,
        "--http-port": "0",
        "--log-format": "json",
    }
    arguments = ["pinna", "run", "--config", "/dev/null"]
    arguments += [word for pair in settings.items() for word in pair] + list(flags)
    with program(arguments, sound.environment, folder, name) as running:
        started = Agent(running)
        if wait:
            started.wait_listening()
        yield started


@contextlib.contextmanager
def hub(
    sound: VirtualSound, folder: Path, *words: str, port: int = 0, name: str = "hub"
) -> Iterator[tuple[Program, str]]:
    arguments = ["pinna", "hub", *words, "--port", str(port), "--json"]
    with program(arguments, sound.environment, folder, name) as running:

        def address() -> Any:
            assert running.process.poll() is None, running.said()
            return [line["address"] for line in running.events() if "address" in line]

        yield running, eventually(address, what="the hub listens")[0]


def get_json(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
