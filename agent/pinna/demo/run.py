"""The demonstration: agent and hub as real processes around a room that exists only in memory."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pinna import top
from pinna.demo import speech
from pinna.demo.sound import MICROPHONE, SPEAKER, VirtualSound
from pinna.errors import ProofError

DEVICE_ID: Final = "demo"
START_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.25
SETTLED_SECONDS: Final = 3.0
"""Echo figures count from here on: a canceller has to learn the room first."""

QUIET_SECONDS: Final = 2.0
"""And only when the talker has been silent for so long: echo return loss enhancement is defined without
double talk (ITU-T G.168), and the agent's figure looks back over a second."""

ECHO_SECONDS: Final = 10.0
"""A shorter demonstration may have no such moment, and then claims nothing of the echo."""

FRAMES_PER_SECOND: Final = 50
ENOUGH: Final = 0.8
"""Of the frames that the time allows, how many must have come through."""


@dataclass(slots=True)
class Proof:
    """What the demonstration measured. None: not measured. `failures` says what was not proven."""

    seconds: float = 0.0
    mic_frames_sent: int = 0
    mic_frames_dropped: int = 0
    hub_frames_received: int = 0
    hub_speech_frames: int = 0
    tts_frames_received: int = 0
    tts_frames_played: int = 0
    latency_ms_p50: float | None = None
    latency_ms_p99: float | None = None
    erle_db: float | None = None
    echo_delay_ms: float | None = None
    room_heard_dbfs: float | None = None
    cpu_percent: float | None = None
    rss_mb: float | None = None
    proven: bool = False
    failures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Seen:
    """What was seen while it ran: the latest bodies of both, and what was collected."""

    agent: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] | None = None
    erle_db: list[float] = field(default_factory=list)
    heard_dbfs: list[float] = field(default_factory=list)
    cpu_percent: float = 0.0
    rss_mb: float = 0.0


def run(seconds: float, *, show: bool, say: Any) -> Proof:
    """Stream for `seconds`, with a live view if `show`; `say` takes lines of progress.

    Raises PinnaError when something needed is missing, ProofError when a process ends early.
    """
    with contextlib.ExitStack() as stage:
        folder = Path(stage.enter_context(tempfile.TemporaryDirectory(prefix="pinna-demo-")))
        say("Two voices are being spoken (espeak-ng) …")
        near, far = folder / "near.wav", folder / "far.wav"
        speech.speak(*speech.NEAR, near, pause_seconds=8.0)
        speech.speak(*speech.FAR, far, pause_seconds=1.0)
        say("A private sound server is starting: one microphone, one loudspeaker, one room …")
        sound = stage.enter_context(VirtualSound())
        room = stage.enter_context(process("room", ["-m", "pinna.demo.room", str(near)], sound, folder))
        say("The hub is starting …")
        hub = stage.enter_context(
            process(
                "hub",
                ["-m", "pinna", "hub", "say", str(far), "--repeat", "--port", "0", "--json"],
                sound,
                folder,
            )
        )
        hub_url = wait_for(hub, "hub", folder, lambda line: line.get("address"))
        say("The agent is starting …")
        agent = stage.enter_context(process("agent", _agent_command(hub_url), sound, folder))
        port = wait_for(
            agent,
            "agent",
            folder,
            lambda line: line.get("port") if line.get("event") == "http.listening" else None,
        )
        processes = {"agent": agent, "hub": hub, "room": room}
        return _watch(seconds, f"http://127.0.0.1:{port}", hub_url, processes, show=show, folder=folder)


def _agent_command(hub_url: str) -> list[str]:
    settings = {
        "--device-id": DEVICE_ID,
        "--hub-url": hub_url,
        "--audio-input": MICROPHONE,
        "--audio-output": SPEAKER,
        "--http-port": "0",
        "--log-format": "json",
    }
    return [
        "-m",
        "pinna",
        "run",
        "--config",
        os.devnull,
        *(word for pair in settings.items() for word in pair),
    ]


def _watch(
    seconds: float,
    agent_url: str,
    hub_url: str,
    processes: dict[str, subprocess.Popen[bytes]],
    *,
    show: bool,
    folder: Path,
) -> Proof:
    agent = processes["agent"]
    seen = _Seen()
    with top.live() if show else contextlib.nullcontext() as screen:
        _until_streaming(agent_url, agent, folder)
        began = time.monotonic()
        cpu_before = _cpu_seconds(agent.pid)
        while (elapsed := time.monotonic() - began) < seconds:
            for name, process in processes.items():
                still_runs(process, name, folder)
            body, device = top.fetch(agent_url), _hub_device(hub_url)
            seen.agent, seen.device = body, device
            if screen is not None and device:
                screen.update(top.draw(body, device), refresh=True)
            erle_db = body["echo"].get("erle_db")
            if erle_db is not None and elapsed > SETTLED_SECONDS and _quiet_for(folder) > QUIET_SECONDS:
                seen.erle_db.append(erle_db)
            seen.heard_dbfs.append(body["audio"]["speaker_dbfs"])
            time.sleep(min(POLL_SECONDS, max(0.0, seconds - elapsed)))
        elapsed = time.monotonic() - began
        seen.agent, seen.device = top.fetch(agent_url), _hub_device(hub_url)
        seen.cpu_percent = 100 * (_cpu_seconds(agent.pid) - cpu_before) / elapsed
        seen.rss_mb = _resident_mb(agent.pid)
    return _proof(elapsed, seen, _get(f"{hub_url}/health"))


def _proof(seconds: float, seen: _Seen, hub: dict[str, Any]) -> Proof:
    agent, device = seen.agent, seen.device or {}
    latency = device.get("latency_ms") or {}
    proof = Proof(
        seconds=round(seconds, 1),
        mic_frames_sent=agent["mic_frames_sent"],
        mic_frames_dropped=agent["mic_frames_dropped"],
        hub_frames_received=device.get("frames_received", 0),
        hub_speech_frames=hub["frames_forwarded"],
        tts_frames_received=agent["tts_frames_received"],
        tts_frames_played=agent["tts_frames_played"],
        latency_ms_p50=latency.get("p50"),
        latency_ms_p99=latency.get("p99"),
        erle_db=round(statistics.median(seen.erle_db), 1) if seen.erle_db else None,
        echo_delay_ms=agent["echo"].get("delay_ms"),
        room_heard_dbfs=round(max(seen.heard_dbfs, default=-96.0), 1),
        cpu_percent=round(seen.cpu_percent, 1),
        rss_mb=round(seen.rss_mb, 1),
    )
    expected = ENOUGH * seconds * FRAMES_PER_SECOND
    checks = {
        "the agent did not send the microphone steadily": proof.mic_frames_sent >= expected,
        "the hub did not receive the microphone steadily": proof.hub_frames_received >= expected,
        "the hub heard no speech": proof.hub_speech_frames > 0,
        "the loudspeaker did not play the hub's voice steadily": proof.tts_frames_played >= expected,
        "nothing was to be heard from the loudspeaker": (proof.room_heard_dbfs or -96.0) > -50.0,
        "the echo was not cancelled": proof.erle_db is None or proof.erle_db >= 10.0,
        "the echo's cancelling could not be measured": proof.erle_db is not None or seconds < ECHO_SECONDS,
    }
    proof.failures = [failure for failure, held in checks.items() if not held]
    proof.proven = not proof.failures
    return proof


@contextlib.contextmanager
def process(
    name: str, arguments: list[str], sound: VirtualSound, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python of ours among the virtual devices; its output goes to files in `folder`. Ended at the end."""
    clean = {
        key: value for key, value in sound.environment.items() if not key.startswith(("PINNA_", "NAILA_"))
    }
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=clean, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], name: str, folder: Path, find: Any) -> Any:
    """The first thing that `find` makes of a JSON line that the process prints."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        still_runs(process, name, folder)
        for line in _said(name, folder):
            with contextlib.suppress(ValueError):
                if found := find(json.loads(line)):
                    return found
        time.sleep(0.05)
    raise ProofError(f"the {name} did not start in {START_SECONDS:.0f} s", hint=_last_words(name, folder))


def _until_streaming(url: str, agent: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        still_runs(agent, "agent", folder)
        if (body := top.fetch(url))["connected"] and body["mic_frames_sent"]:
            return
        time.sleep(0.05)
    raise ProofError(
        f"the agent did not stream to the hub in {START_SECONDS:.0f} s", hint=_last_words("agent", folder)
    )


def _quiet_for(folder: Path) -> float:
    """For how many seconds the talker in the room has been silent."""
    changes = [json.loads(line) for line in _said("room", folder) if line.endswith("}")]
    if not changes or changes[-1]["talking"]:
        return 0.0
    return time.monotonic() - float(changes[-1]["at"])


def still_runs(process: subprocess.Popen[bytes], name: str, folder: Path) -> None:
    if process.poll() is not None:
        raise ProofError(
            f"the {name} ended by itself with code {process.returncode}", hint=_last_words(name, folder)
        )


def _said(name: str, folder: Path) -> list[str]:
    return [
        line
        for suffix in ("out", "err")
        for line in (folder / f"{name}.{suffix}").read_text(errors="replace").splitlines()
    ]


def _last_words(name: str, folder: Path) -> str:
    return "Its last words: " + (" / ".join(_said(name, folder)[-3:]) or "none")


def _hub_device(url: str) -> dict[str, Any] | None:
    device: dict[str, Any] | None = _get(f"{url}/health").get("devices", {}).get(DEVICE_ID)
    return device


def _get(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310  (our own hub)
            body: dict[str, Any] = json.load(answer)
            return body
    except (OSError, ValueError) as error:
        raise ProofError(f"the hub does not answer at {url} ({error})", hint="It may have crashed") from error


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, from /proc/PID/stat (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
