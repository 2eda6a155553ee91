"""What the doctor says of a real agent and its real hub. Neither systemd nor a card is needed for that."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.programs import Agent, agent, hub
from tests.support.waiting import eventually

from pinna.demo.sound import VirtualSound
from pinna.doctor.finding import Finding
from pinna.doctor.judge import judge, parse
from pinna.doctor.looking import SOURCE


@pytest.fixture(scope="module")
def url(sound: VirtualSound, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hub(sound, tmp_path_factory.mktemp("hub"), "listen") as (_, address):
        yield address


def look(folder: Path, hub_url: str, port: int, *options: str) -> dict[str, Any]:
    """A snapshot by the configuration that an agent at `port` would have."""
    config = folder / "pinna.toml"
    config.write_text(f'device_id = "x"\n[hub]\nurl = "{hub_url}"\n[http]\nport = {port}\n')
    command = [sys.executable, "-", "--deaf", "--config", str(config), *options]
    done = subprocess.run(command, input=SOURCE.read_bytes(), capture_output=True, timeout=60, check=True)
    return parse(done.stdout.decode())


def finding(snapshot: dict[str, Any]) -> Finding:
    """Of the hub. The agent's service is not there: as if systemd said that it runs."""
    unit = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}
    return {one.link: one for one in judge({**snapshot, "unit": unit, "system": {}})}["hub"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_connected_agent(sound: VirtualSound, url: str, tmp_path: Path) -> None:
    with agent(sound, tmp_path, url) as device:
        device.wait_connected()
        eventually(lambda: device.health()["audio"]["frames_captured"], what="the agent hears")
        snapshot = look(tmp_path, url, device.port)
        assert snapshot["agent"]["connected"] is True
        assert snapshot["agent"]["audio"]["frames_captured"] > 0
        assert finding(snapshot).status == "ok"


def failed(device: Agent) -> bool:
    return device.health()["components"]["link"]["state"] == "failed"


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("http://127.0.0.1:{closed}", "hub-not-running"),
        ("http://nowhere.invalid:8080", "hub-name-unknown"),
    ],
)
def test_a_hub_that_cannot_be_had(sound: VirtualSound, tmp_path: Path, address: str, cause: str) -> None:
    address = address.format(closed=free_port())
    with agent(sound, tmp_path, address) as device:
        eventually(lambda: failed(device), what="the agent has noticed")
        found = finding(look(tmp_path, address, device.port))
        assert (found.status, found.cause) == ("broken", cause)


def test_a_hub_that_wants_a_token(sound: VirtualSound, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("s3cret-of-the-hub")
    with (
        hub(sound, tmp_path, "listen", "--token-file", str(token)) as (_, address),
        agent(sound, tmp_path, address, "--service") as device,
    ):
        eventually(lambda: failed(device), what="the agent has noticed")
        found = finding(look(tmp_path, address, device.port))
        assert (found.status, found.cause) == ("broken", "hub-refuses")


def test_a_hub_that_never_answers(sound: VirtualSound, tmp_path: Path) -> None:
    """Something takes the connection, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        found = finding(look(tmp_path, address, free_port(), "--seconds", "5"))
        assert (found.status, found.cause) == ("broken", "hub-unreachable")
        assert "no answer in 2 s" in found.evidence


def test_an_agent_that_hangs(sound: VirtualSound, url: str, tmp_path: Path) -> None:
    with agent(sound, tmp_path, url) as device:
        device.wait_connected()
        os.kill(device.program.process.pid, signal.SIGSTOP)
        try:
            snapshot = look(tmp_path, url, device.port)
        finally:
            os.kill(device.program.process.pid, signal.SIGCONT)
        assert "timed out" in snapshot["agent"]["error"]
        assert finding(snapshot).status == "not seen"
