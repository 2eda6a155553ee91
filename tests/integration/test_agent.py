"""The agent as its users run it: real processes, real PortAudio, a real hub, and what may befall them."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.support.programs import Agent, agent, get_json, hub
from tests.support.waiting import eventually, until

from pinna.demo.sound import VirtualSound
from pinna.exposition import HEALTH_KEYS
from pinna.hub.options import HubOptions
from pinna.hub.server import Hub


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_audio_goes_both_ways(sound: VirtualSound, voices: dict[str, Path], tmp_path: Path) -> None:
    with (
        hub(sound, tmp_path, "say", str(voices["far"]), "--repeat") as (_, url),
        agent(sound, tmp_path, url, name="kitchen") as kitchen,
    ):
        kitchen.wait_connected()
        assert kitchen.status() == 200
        eventually(lambda: get_json(f"{url}/health")[1]["frames_forwarded"] > 25, what="the hub hears speech")
        body = eventually(
            lambda: body if (body := kitchen.health())["tts_frames_played"] > 50 else None, what="played"
        )
        assert set(HEALTH_KEYS) <= set(body)
        assert body["mic_frames_sent"] > 50
        assert body["echo"]["engine"] == "speexdsp"
        assert body["echo"]["running"]
        assert body["components"]["audio"]["state"] == "ok"
        assert body["audio"]["speaker_dbfs"] is not None
        device = get_json(f"{url}/health")[1]["devices"]["kitchen"]
        assert device["frames_received"] > 50

        with urllib.request.urlopen(f"{kitchen.url}/metrics", timeout=5) as answer:
            families = {f.name for f in text_string_to_metric_families(answer.read().decode())}
        assert {"pinna_mic_frames_sent", "pinna_connected", "pinna_aec_running"} <= families
        assert kitchen.program.stop() == 0
        eventually(lambda: get_json(f"{url}/health")[1]["active_devices"] == 0, what="the hub saw it go")


def test_two_agents_at_once(sound: VirtualSound, tmp_path: Path) -> None:
    with (
        hub(sound, tmp_path, "echo") as (_, url),
        agent(sound, tmp_path, url, name="one") as one,
        agent(sound, tmp_path, url, name="two") as two,
    ):
        for each in (one, two):
            each.wait_connected()
            eventually(lambda each=each: each.health()["tts_frames_played"] > 25, what="echo heard")
        assert get_json(f"{url}/health")[1]["active_devices"] == 2


def test_a_hub_that_dies_is_noticed_and_its_return_is_used(sound: VirtualSound, tmp_path: Path) -> None:
    port = free_port()
    with (
        hub(sound, tmp_path, "echo", port=port, name="first") as (first, url),
        agent(sound, tmp_path, url) as device,
    ):
        device.wait_connected()
        captured = device.health()["audio"]["frames_captured"]
        first.stop(signal.SIGKILL)
        # 5 s on an idle machine
        eventually(lambda: not device.health()["connected"], 8, what="the death was noticed")
        assert device.status() == 503
        assert device.health()["components"]["audio"]["state"] == "ok"
        assert device.health()["audio"]["frames_captured"] > captured
        with hub(sound, tmp_path, "echo", port=port, name="second"):
            assert device.wait_connected()["connections"] == 2
            eventually(
                lambda: get_json(f"{url}/health")[1]["devices"]["agent"]["frames_received"] > 25,
                what="frames at the new hub",
            )


def test_a_lost_card_comes_back_and_the_link_never_knew(fragile_sound: VirtualSound, tmp_path: Path) -> None:
    sound = fragile_sound
    with hub(sound, tmp_path, "echo") as (_, url), agent(sound, tmp_path, url) as device:
        device.wait_connected()
        eventually(lambda: device.health()["mic_frames_sent"] > 10, what="streaming")
        sound.stop(signal.SIGKILL)
        lost = eventually(
            lambda: body if (body := device.health())["components"]["audio"]["state"] == "failed" else None,
            what="the loss is told",
        )
        assert lost["connected"]
        assert lost["components"]["audio"]["hint"]
        sent, streams = lost["mic_frames_sent"], lost["audio"]["streams_opened"]
        sound.start()
        eventually(lambda: device.health()["mic_frames_sent"] > sent + 10, what="streaming again")
        back = device.health()
        assert back["audio"]["streams_opened"] > streams
        assert back["connections"] == 1
        assert back["components"]["audio"]["state"] == "ok"


def test_sigterm_ends_it_promptly_and_wholly(sound: VirtualSound, tmp_path: Path) -> None:
    with hub(sound, tmp_path, "echo") as (_, url), agent(sound, tmp_path, url) as device:
        device.wait_connected()
        began = time.monotonic()
        assert device.program.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 4  # 2 s on an idle machine
        assert "Traceback" not in device.program.said()
        assert device.program.events("agent.stopped")[0]["threads_left"] == 0


def test_killed_and_started_again(sound: VirtualSound, tmp_path: Path) -> None:
    with hub(sound, tmp_path, "echo") as (_, url):
        with agent(sound, tmp_path, url, name="same") as device:
            device.wait_connected()
            device.program.stop(signal.SIGKILL)
        with agent(sound, tmp_path, url, name="same") as device:
            device.wait_connected()
            eventually(lambda: device.health()["mic_frames_sent"] > 10, what="streaming again")
            assert get_json(f"{url}/health")[1]["active_devices"] == 1


async def _thirty_sessions(device: Agent, port: int) -> list[tuple[int, int, int]]:
    """(resident bytes, files, threads) after each of thirty sessions with hubs that come and go."""
    process = psutil.Process(device.program.process.pid)
    figures = []
    for count in range(1, 31):
        async with Hub(HubOptions(port=port)):
            await until(lambda count=count: device.health()["connections"] >= count, what="connected")
        await until(lambda: not device.health()["connected"], what="disconnected")
        figures.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
    return figures


def test_thirty_reconnections_cost_nothing(sound: VirtualSound, tmp_path: Path) -> None:
    port = free_port()
    flags = ("--hub-reconnect-seconds", "0.05", "--hub-reconnect-max-seconds", "0.05")
    with agent(sound, tmp_path, f"http://127.0.0.1:{port}", *flags) as device:
        figures = asyncio.run(_thirty_sessions(device, port))
    memory, files, threads = zip(*figures, strict=True)
    assert memory[-1] < memory[9] + 4_000_000
    # A session that just ends, or begins, has sockets for each of the machine's networks, and a thread.
    assert min(files[-10:]) <= min(files[:10]) + 3
    assert min(threads[-10:]) <= min(threads[:10])


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(15)

    def wait_for(self, word: str) -> str:
        while True:
            text = self.socket.recv(4096).decode()
            if word in text:
                return text

    def drain(self) -> list[str]:
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            self.socket.settimeout(15)
            return found


def test_systemd_is_told_and_a_deaf_agent_is_not_fed(
    fragile_sound: VirtualSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with hub(fragile_sound, tmp_path, "echo") as (_, url), agent(fragile_sound, tmp_path, url) as device:
        systemd.wait_for("READY=1")
        systemd.wait_for("WATCHDOG=1")
        device.wait_connected()
        fragile_sound.stop(signal.SIGKILL)
        eventually(lambda: device.health()["components"]["audio"]["state"] == "failed", what="deaf")
        eventually(lambda: "WATCHDOG=1" not in systemd.drain() or None, what="hungry")
        silence_until = time.monotonic() + 1.0  # ten feeding times of an agent that hears
        while time.monotonic() < silence_until:
            assert not [text for text in systemd.drain() if "WATCHDOG=1" in text]
        fragile_sound.start()
        systemd.wait_for("WATCHDOG=1")
        device.program.stop()
        systemd.wait_for("STOPPING=1")
    systemd.socket.close()
