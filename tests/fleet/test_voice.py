"""A spoken wake word opens a session with a voice service, and the button ends it: on a Pi the playbook made.

.venv/bin/pytest -s tests/fleet/test_voice.py

The microphone hears espeak-ng. The button is line 3 of the emulated board's GPIO chip, QEMU's power button;
Linux's own driver for it lets go of it first. With -s one sees what listening costs a Pi of 512 MB.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fleet import pis
from tests.fleet.conftest import AGENT
from tests.fleet.hub import TOKEN
from tests.fleet.pis import Converged, Pi
from tests.fleet.playbook import play
from tests.support.voice_service import VoiceService
from tests.support.waiting import eventually, until
from tests.virtual_pi.acoustics import silence, wav
from tests.virtual_pi.machine import GATEWAY
from tests.virtual_pi.progress import say
from tests.virtual_pi.sh04 import Sh04

from pinna.demo import speech

CHIP, LINE = "/dev/gpiochip0", 3
RULE = "/etc/udev/rules.d/71-pinna-gpio.rules"
WORD = "okay_nabu"
HOLD_SECONDS = 3.0
PATIENCE_SECONDS = 240  # an emulated Pi takes most of it to load the agent and its model
MEASURED_FRAMES = 3000  # a minute


@dataclass(frozen=True)
class Porch:
    """An appliance with a button, whose voice service is to be at `port` of this machine."""

    pi: Pi
    inventory: Path
    port: int

    def health(self) -> dict[str, Any]:
        """Empty while the agent does not answer."""
        ask = "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        _, _, body = self.pi.machine.run(f'bash -c "{ask}"', check=False).stdout.partition("\r\n\r\n")
        answer: dict[str, Any] = json.loads(body) if body else {}
        return answer

    def listens(self) -> bool:
        told = self.health()
        return bool(told) and (told["session"]["state"], told["components"]["wakeword"]["state"]) == (
            "listening",
            "ok",
        )

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.pi.machine.run("pinna sessions --json").stdout)
        return found

    def kept(self) -> int:
        """Frames of the microphone that have stayed in the device."""
        return int(self.health()["session"]["frames_held"])

    def processor_seconds(self) -> float:
        shown = self.pi.machine.run(f"systemctl show --value --property=CPUUsageNSec {AGENT}").stdout
        return int(shown) / 1e9

    def memory_mb(self) -> dict[str, int]:
        """Of the agent: resident, and with what it shares divided by its users (Pss); of the Pi: free."""
        shown = self.pi.machine.run(
            f"cat /proc/$(systemctl show --value --property=MainPID {AGENT})/smaps_rollup /proc/meminfo"
        ).stdout
        lines = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
        return {key: int(lines[key].split()[0]) // 1024 for key in ("Rss", "Pss", "MemAvailable", "MemTotal")}


@pytest.fixture(scope="module")
def porch(
    first: Converged, voice: Path, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Porch]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = json.loads(variables["agent_settings"])
    told = {
        **variables,
        "pinna_hub_url": f"ws://{GATEWAY}:{port}/v1/connect",
        "pinna_hub_token": TOKEN,
        "agent_session_mode": "button+wakeword",
        "agent_button_pin": str(LINE),
        "agent_settings": json.dumps(
            {
                **settings,
                "hub": {"dialect": "websocket"},
                "session": {"gpio_chip": CHIP, "button_wiring": "supply", "quiet_seconds": 900},
            }
        ),
    }
    with pis.booted({"porch": Sh04(source=wav(voice))}, first.disk) as (pi,):
        pi.machine.run("systemctl is-system-running --wait", check=False, timeout=300)
        pi.machine.run("modprobe -r gpio_keys")
        inventory = pis.inventory(tmp_path_factory.mktemp("porch") / "inventory.ini", [pi], told)
        done = play("site.yml", inventory, "--tags", "agent")
        assert done.code == 0, done.trouble()
        yield Porch(pi, inventory, port)


def test_listening_costs_what_is_told(porch: Porch) -> None:
    """Somebody speaks all the time, and does not say the word."""
    eventually(porch.listens, PATIENCE_SECONDS, what="it listens")
    before, used = porch.kept(), porch.processor_seconds()
    eventually(
        lambda: porch.kept() >= before + MEASURED_FRAMES, PATIENCE_SECONDS, what="frames that are kept"
    )
    share = (porch.processor_seconds() - used) / ((porch.kept() - before) / 50)
    say(f"listening for {WORD}: {share:.0%} of the emulated processor; MB: {porch.memory_mb()}")
    assert porch.listens()


def test_a_spoken_word_opens_a_session_and_the_button_ends_it(porch: Porch, tmp_path: Path) -> None:
    machine, said = porch.pi.machine, tmp_path / "said.wav"
    speech.speak("en-us", WORD.replace("_", " "), said, pause_seconds=6.0)

    async def scenario() -> None:
        async with VoiceService(tokens={TOKEN}, port=porch.port) as service:
            await until(porch.listens, PATIENCE_SECONDS, what="it listens")
            assert service.calls == []
            porch.pi.microphone.source = wav(said)
            await until(lambda: service.calls, PATIENCE_SECONDS, what="a call")
            await until(
                lambda: len(service.call.audio) > 50 and np.max(np.abs(service.call.heard)) > 1000,
                PATIENCE_SECONDS,
                what="the microphone's sound",
            )
            porch.pi.microphone.source = silence
            await asyncio.to_thread(machine.hold_power_button, HOLD_SECONDS)
            await until(lambda: service.call.over, 60, what="the end of the call")
            assert "call_disconnect" in service.call.kinds
            await until(porch.listens, 60, what="it listens again")

            await asyncio.to_thread(machine.press_power_button)
            await until(lambda: len(service.calls) == 2 and service.call.audio, 60, what="another call")
            await asyncio.to_thread(machine.hold_power_button, HOLD_SECONDS)
            await until(lambda: service.call.over, 60, what="its end")

    asyncio.run(scenario())
    by = [(session["opened_by"], session["ended_by"]) for session in porch.sessions()]
    assert by == [(f"wake word {WORD}", "button"), ("button", "button")]


def test_without_a_button_gpio_is_as_it_was(porch: Porch) -> None:
    assert porch.pi.machine.run(f"test -e {RULE}", check=False).returncode == 0
    done = play("site.yml", porch.inventory, "--tags", "agent", extra={"agent_session_mode": "wakeword"})
    assert done.code == 0, done.trouble()
    assert porch.pi.machine.run(f"test -e {RULE}", check=False).returncode == 1
    eventually(porch.listens, PATIENCE_SECONDS, what="it listens")
