"""The agent as its users run it, its microphone shut: what really leaves, looked at on the wire."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.fakehub import FakeHub
from tests.support.programs import Agent, agent
from tests.support.voice_service import VoiceService
from tests.support.waiting import until
from tests.support.wakeword_package import broken

from pinna import top
from pinna.config import HttpConfig
from pinna.demo.sound import VirtualSound
from pinna.errors import HubRefusedError
from pinna.http import HealthServer, SessionControl

TOKEN = "s3cret-of-the-session"


class Device:
    """A running agent that asks for a token, by what it answers."""

    def __init__(self, running: Agent) -> None:
        self.running = running

    def health(self) -> dict[str, Any]:
        return top.fetch(self.running.url, TOKEN)

    def ask(self, action: str | None = None) -> dict[str, Any]:
        return top.session(self.running.url, action, TOKEN)

    async def shut_for(self, frames: int) -> None:
        """Wait while so many more frames stay in the device."""

        def held() -> int:
            return int(self.health()["session"]["frames_held"])

        before = await asyncio.to_thread(held)
        await until(lambda: held() > before + frames, what="frames held")


def sessions(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pinna", "sessions", "--json", "--config", str(folder / "pinna.toml")]
    (folder / "pinna.toml").write_text(f'[session]\nstate_dir = "{folder}/state"\n')
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is made to wait for three seconds at most; on a busy machine an agent may take longer."""
    monkeypatch.setattr(top, "TIMEOUT_SECONDS", 30.0)


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PINNA_HTTP_TOKEN", TOKEN)
    return ["--session-mode", "request", "--session-state-dir", str(tmp_path / "state")]


def test_nothing_leaves_while_it_is_shut_and_a_mute_outlives_a_restart(
    sound: VirtualSound, tmp_path: Path, flags: list[str]
) -> None:
    async def scenario() -> None:
        async with FakeHub() as hub:
            with agent(sound, tmp_path, hub.url, *flags, name="first") as running:
                device = Device(running)
                await until(lambda: device.health()["connected"], 40, what="connected")
                await device.shut_for(100)
                packets = hub.session.packets
                assert packets == []
                assert device.ask()["state"] == "idle"

                assert (device.ask("open")["changed"], device.ask("open")["changed"]) == (True, False)
                await until(lambda: len(packets) > 40, what="sound")
                # 300 ms from before the opening went ahead: a burst, whose RTP times are a frame apart each
                times = [packet.timestamp - packets[0].timestamp for packet in packets[:16]]
                assert times[:15] == [960 * number for number in range(15)]

                device.ask("close")
                await device.shut_for(20)  # what was under way has arrived
                sent = len(packets)
                await device.shut_for(100)
                assert len(packets) == sent
                assert device.health()["connected"]
                assert len(hub.sessions) == 1

                device.ask("open")
                await until(lambda: len(packets) > sent + 40, what="sound again")
                device.ask("mute")
                assert device.ask("open")["changed"] is False
                await until((tmp_path / "state" / "muted").exists, what="kept")
                assert await asyncio.to_thread(running.program.stop) == 0
                opened = running.program.events("session.opened")
                assert [event["by"] for event in opened] == ["request", "request"]
                assert TOKEN not in running.program.said()

            with agent(sound, tmp_path, hub.url, *flags, name="second") as running:
                device = Device(running)
                await until(lambda: device.health()["connected"], 40, what="connected")
                assert device.ask()["state"] == "muted"
                device.ask("open")
                await device.shut_for(50)
                assert hub.session.packets == []
                device.ask("unmute")
                device.ask("open")
                await until(lambda: len(hub.session.packets) > 20, what="sound after the mute")

    asyncio.run(scenario())
    first, second = sessions(tmp_path)[:2]
    assert (first["opened_by"], first["ended_by"], first["errors"]) == ("request", "request", [])
    assert second["ended_by"] == "request"
    assert first["seconds"] >= 0.4  # 40 frames of sound, a third of them from before


def test_a_voice_service_is_called_for_a_session_and_only_then(
    sound: VirtualSound, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNA_HUB_TOKEN", "id-token-of-the-service")

    async def scenario() -> None:
        async with VoiceService(tokens={"id-token-of-the-service"}) as service:
            with agent(
                sound, tmp_path, service.url, *flags, "--hub-dialect", "websocket", name="voice"
            ) as running:
                device = Device(running)
                await until(lambda: device.health()["resting"], 40, what="at rest")
                await device.shut_for(50)
                assert service.calls == []
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with (
                    aiohttp.ClientSession(running.url, headers=headers) as http,
                    http.get("/health") as answer,
                ):
                    assert answer.status == 200
                device.ask("open")
                await until(lambda: service.calls and len(service.call.audio) > 20, what="sound")
                assert device.health()["connected"], running.program.said()
                await service.call.send("call_disconnect", {"reason": "done"})
                await until(lambda: device.ask()["state"] == "idle", what="hung up")
                await until(lambda: service.call.over, what="closed")
                assert not device.health()["connected"]
                assert await asyncio.to_thread(running.program.stop) == 0
                assert "id-token-of-the-service" not in running.program.said()

    asyncio.run(scenario())
    (only,) = sessions(tmp_path)
    assert (only["opened_by"], only["ended_by"]) == ("request", "hub")


def test_a_mute_holds_where_the_microphone_is_always_open(
    sound: VirtualSound, tmp_path: Path, flags: list[str]
) -> None:
    async def scenario() -> None:
        async with FakeHub() as hub:
            with agent(sound, tmp_path, hub.url, *flags[2:]) as running:
                device = Device(running)
                await until(lambda: hub.sessions and len(hub.session.packets) > 20, 40, what="sound")
                assert device.ask()["state"] == "session"
                device.ask("mute")
                await device.shut_for(20)
                sent = len(hub.session.packets)
                await device.shut_for(50)
                assert len(hub.session.packets) == sent
                device.ask("unmute")
                await until(lambda: len(hub.session.packets) > sent + 20, what="sound again")

    asyncio.run(scenario())


def test_people_on_the_device_need_no_token_of_their_own(sound: VirtualSound, tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "pinna.toml"

    def pinna_session(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pinna", "session", *words, "--config", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    async def scenario() -> None:
        async with FakeHub() as hub:
            flags = ("--session-mode", "request", "--session-state-dir", str(state))
            with agent(sound, tmp_path, hub.url, *flags) as running:
                file.write_text(f'[session]\nstate_dir = "{state}"\n[http]\nport = {running.port}\n', "utf-8")
                done = await asyncio.to_thread(pinna_session, "mute")
                assert done.returncode == 0, done.stderr
                assert done.stdout.startswith("muted, for 0 s, by request")
                assert running.health()["session"]["state"] == "muted"  # telling asks for no token
                with pytest.raises(HubRefusedError, match="asks for a token"):
                    await asyncio.to_thread(top.session, running.url, "unmute", "guessed")
                token = state / "session_token"
                assert token.stat().st_mode & 0o777 == 0o640
                assert token.read_text().strip() not in running.program.said()
                token.unlink()
                done = await asyncio.to_thread(pinna_session, "unmute")
                assert done.returncode == HubRefusedError.exit_code
                assert running.health()["session"]["state"] == "muted"

    asyncio.run(scenario())


@pytest.mark.skipif(any(Path("/dev").glob("gpiochip*")), reason="this machine has GPIO")
def test_without_its_button_the_device_goes_on_and_says_why(
    sound: VirtualSound, tmp_path: Path, flags: list[str]
) -> None:
    async def scenario() -> None:
        async with FakeHub() as hub:
            more = ("--service", "--session-mode", "button", "--session-led-pin", "22")
            with agent(sound, tmp_path, hub.url, *flags, *more) as running:
                device = Device(running)
                await until(lambda: device.health()["connected"], 40, what="connected")
                for name in ("button", "led"):
                    told = device.health()["components"][name]
                    assert told["state"] == "failed"
                    assert "no GPIO at all" in told["reason"]
                    assert "session.gpio_chip" in told["hint"]
                device.ask("open")
                await until(lambda: len(hub.session.packets) > 20, what="sound")

    asyncio.run(scenario())


def test_without_a_wake_words_model_the_device_goes_on_and_says_why(
    sound: VirtualSound, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(broken(tmp_path, "okay_nabu", None)))

    async def scenario() -> None:
        async with FakeHub() as hub:
            more = ("--service", "--session-mode", "wakeword")
            with agent(sound, tmp_path, hub.url, *flags, *more) as running:
                device = Device(running)
                await until(lambda: device.health()["connected"], 40, what="connected")
                await until(
                    lambda: device.health()["components"]["wakeword"]["state"] == "failed", what="told"
                )
                told = device.health()["components"]["wakeword"]
                assert "okay_nabu.tflite" in told["reason"]
                assert "session.wake_words" in told["hint"]
                device.ask("open")
                await until(lambda: len(hub.session.packets) > 20, what="sound")

    asyncio.run(scenario())


class TestAsking:
    def serve(self, token: str | None, visit: Any) -> list[str]:
        done: list[str] = []
        control = SessionControl(lambda: {"state": "idle"}, {"mute": lambda: done.append("mute")})
        server = HealthServer(
            HttpConfig(port=0), health=dict, metrics=lambda: b"", token=token, session=control
        )

        async def scenario() -> None:
            await server.start()
            try:
                await visit(f"http://127.0.0.1:{server.port}")
            finally:
                await server.stop()

        asyncio.run(scenario())
        return done

    def test_without_a_token_it_tells_but_changes_nothing(self) -> None:
        async def visit(url: str) -> None:
            assert (await asyncio.to_thread(top.session, url, None))["state"] == "idle"
            with pytest.raises(HubRefusedError, match=r"no token.*http.token_file"):
                await asyncio.to_thread(top.session, url, "mute")

        assert self.serve(None, visit) == []

    def test_with_another_token_it_does_neither(self) -> None:
        async def visit(url: str) -> None:
            for action in (None, "mute"):
                with pytest.raises(HubRefusedError, match="asks for a token"):
                    await asyncio.to_thread(top.session, url, action, "wrong")

        assert self.serve(TOKEN, visit) == []

    @pytest.mark.parametrize(
        "body", ["", "{", "[]", '"mute"', '{"action": "explode"}', '{"action": ["mute"]}']
    )
    def test_what_is_no_action_is_refused_with_the_ones_there_are(self, body: str) -> None:
        async def visit(url: str) -> None:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with (
                aiohttp.ClientSession(url, headers=headers) as http,
                http.post("/session", data=body) as answer,
            ):
                assert answer.status == 400
                assert "one of mute" in (await answer.json())["error"]

        assert self.serve(TOKEN, visit) == []
