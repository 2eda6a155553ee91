"""The demonstration of a session: a wake word, spoken in a room in memory, opens the microphone."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinna import top
from pinna.demo import speech
from pinna.demo.run import POLL_SECONDS, process, still_runs, wait_for
from pinna.demo.sound import MICROPHONE, SPEAKER, VirtualSound
from pinna.errors import ProofError

WAKE: Final = ("en-us", "Okay Nabu")
QUESTION: Final = ("en-us", "What do you hear, when I stand in the room and speak to you like this?")
SECONDS: Final = 120.0
QUIET_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 22
"""Before it is all said again, should a busy machine have missed it: longer than a session takes to end."""


@dataclass(slots=True)
class VoiceProof:
    """What was seen, in seconds since the agent listened; None: not seen."""

    frames_held: int = 0
    frames_sent_before: int = 0
    opened_after: float | None = None
    opened_by: str = ""
    answered_after: float | None = None
    answer_dbfs: float = -96.0
    ended_after: float | None = None
    ended_by: str = ""

    @property
    def proven(self) -> bool:
        return (
            self.opened_by.startswith("wake word")
            and not self.frames_sent_before
            and self.answered_after is not None
            and self.ended_after is not None
        )


def run(say: Callable[[str], None]) -> VoiceProof:
    """Raises PinnaError when something needed is missing, ProofError when a process ends early."""
    with contextlib.ExitStack() as stage:
        folder = Path(stage.enter_context(tempfile.TemporaryDirectory(prefix="pinna-demo-")))
        say("A wake word and a question are being spoken (espeak-ng) …")
        said = folder / "said.wav"
        _speak(said)
        sound = stage.enter_context(VirtualSound())
        say("The hub is starting, as a voice service …")
        words = ["-m", "pinna", "hub", "--voice", "--port", "0", "--json"]
        hub = stage.enter_context(process("hub", words, sound, folder))
        hub_url = wait_for(hub, "hub", folder, lambda line: line.get("address"))
        say("The agent is starting: it listens, and sends nothing …")
        agent = stage.enter_context(process("agent", _command(hub_url, folder), sound, folder))
        port = wait_for(
            agent,
            "agent",
            folder,
            lambda line: line.get("port") if line.get("event") == "http.listening" else None,
        )
        url = f"http://127.0.0.1:{port}"
        while top.fetch(url)["components"].get("wakeword", {}).get("state") != "ok":
            still_runs(agent, "agent", folder)
            time.sleep(POLL_SECONDS)
        say("Somebody enters the room, and speaks …")
        stage.enter_context(process("room", ["-m", "pinna.demo.room", str(said)], sound, folder))
        return _watch(url, lambda: still_runs(agent, "agent", folder), say)


def _speak(path: Path) -> None:
    """Silence, the wake word, a pause, the question, silence: mono WAV of 48 kHz, which the room repeats."""
    parts = []
    for (voice, text), pause in ((WAKE, 2.0), (QUESTION, 3.0)):
        speech.speak(voice, text, path, pause_seconds=pause)
        with wave.open(str(path), "rb") as file:
            form = file.getparams()
            parts.append(file.readframes(file.getnframes()))
    with wave.open(str(path), "wb") as file:
        file.setparams(form)
        file.writeframes(b"".join(parts) + bytes(2 * form.framerate * SILENCE_SECONDS))


def _command(hub_url: str, folder: Path) -> list[str]:
    settings = {
        "--device-id": "demo",
        "--hub-url": f"{hub_url}/v1/connect",
        "--hub-dialect": "websocket",
        "--hub-token-file": str(folder / "token"),
        "--session-mode": "wakeword",
        "--session-quiet-seconds": str(QUIET_SECONDS),
        "--session-state-dir": str(folder / "state"),
        "--audio-input": MICROPHONE,
        "--audio-output": SPEAKER,
        "--http-port": "0",
        "--log-format": "json",
    }
    (folder / "token").write_text("any")
    (folder / "token").chmod(0o600)
    flags = [word for pair in settings.items() for word in pair]
    return ["-m", "pinna", "run", "--config", os.devnull, *flags]


def _watch(url: str, still_running: Callable[[], None], say: Callable[[str], None]) -> VoiceProof:
    proof = VoiceProof()
    began = time.monotonic()
    while (now := time.monotonic() - began) < SECONDS and proof.ended_after is None:
        still_running()
        body: dict[str, Any] = top.fetch(url)
        session = body["session"]
        if proof.opened_after is None:
            proof.frames_held = session["frames_held"]
            if session["state"] == "session":
                proof.opened_after, proof.opened_by = round(now, 1), session["by"]
                say(f"A session was opened by the {session['by']} …")
            else:
                proof.frames_sent_before = body["mic_frames_sent"]
        elif session["state"] != "session":
            proof.ended_after, proof.ended_by = round(now, 1), session["by"]
        if proof.opened_after is not None:
            proof.answer_dbfs = max(proof.answer_dbfs, body["audio"]["speaker_dbfs"])
            if proof.answered_after is None and body["tts_frames_received"]:
                proof.answered_after = round(now, 1)
                say("The hub says back what it heard …")
        time.sleep(POLL_SECONDS)
    if proof.opened_after is None:
        raise ProofError(f"no wake word was heard in {SECONDS:.0f} s", hint="Is the machine very busy?")
    return proof


def text(proof: VoiceProof) -> str:
    """The proof in words."""

    def at(seconds: float | None) -> str:
        return "never" if seconds is None else f"after {seconds:g} s"

    lines = [
        f"  at rest    {proof.frames_held} frames of the microphone stayed here, "
        f"{proof.frames_sent_before} were sent",
        f"  opened     {at(proof.opened_after)} by the {proof.opened_by}",
        f"  answered   {at(proof.answered_after)}, up to {proof.answer_dbfs:.0f} dBFS from the loudspeaker",
        f"  ended      {at(proof.ended_after)}" + (f" by: {proof.ended_by}" if proof.ended_by else ""),
        "Proven: it hears its name, and sends nothing before." if proof.proven else "NOT proven.",
    ]
    return "\n".join(lines)
