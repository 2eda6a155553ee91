"""Runs on the target, as root: several programs record from shared_mic at once, while the agent does.

    {"arecord at 48000 Hz": {"frames": 144000, "rms_dbfs": -31.2, "peak": 6200, "clipped": 0,
                             "began": 12.3, "ended": 15.3},
     "arecord at 16000 Hz": {...}, "sounddevice": {"devices": [...], ...}, "pyaudio": {...} or null,
     "speaker": {...} or null, "agent": [1234, 1400], "wanted": {"arecord at 48000 Hz": 144000, ...}}

Samples are 16-bit mono. `rms_dbfs` is of what remains without the mean, as a deaf card may have an offset;
null for digital silence. `began` and `ended` are monotonic seconds of the first and the last sound; `agent`
is how many frames it had captured before and after. What failed has `error`. The programs run as `nobody`
with group audio, as anybody's may.
"""

from __future__ import annotations

import array
import json
import math
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.target.remote.common import configuration, health

SECONDS = 2
RATES = (48000, 16000)
PORTAUDIO_RATE = 44100
PATIENCE_SECONDS = 120  # an emulated Pi is slow to start a program
FULL_SCALE = 32767
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}

SOUNDDEVICE = f"""
import json, sys, sounddevice
names = [str(device["name"]) for device in sounddevice.query_devices()]
print(json.dumps(names), flush=True)
with sounddevice.RawInputStream({PORTAUDIO_RATE}, 0, names.index("shared_mic"), 1, "int16") as stream:
    for _ in range(10 * {SECONDS}):
        sys.stdout.buffer.write(bytes(stream.read({PORTAUDIO_RATE // 10})[0]))
        sys.stdout.flush()
"""
PYAUDIO = f"""
import json, sys, pyaudio
audio = pyaudio.PyAudio()
names = [str(audio.get_device_info_by_index(number)["name"]) for number in range(audio.get_device_count())]
print(json.dumps(names), flush=True)
index = names.index("shared_mic")
stream = audio.open({PORTAUDIO_RATE}, 1, pyaudio.paInt16, True, input_device_index=index)
for _ in range(10 * {SECONDS}):
    sys.stdout.buffer.write(stream.read({PORTAUDIO_RATE // 10}, exception_on_overflow=False))
    sys.stdout.flush()
stream.close()
audio.terminate()
"""


def hear(command: list[str], names_devices: bool = False) -> dict[str, Any]:
    """Run a program that writes samples; with `names_devices`, after a line of JSON that lists devices."""
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        user="nobody",
        group="nogroup",
        extra_groups=["audio"],
    )
    assert program.stdout is not None
    assert program.stderr is not None
    complaints: list[bytes] = []
    listener = threading.Thread(target=complaints.extend, args=(program.stderr,))
    listener.start()
    alarm = threading.Timer(PATIENCE_SECONDS, program.kill)
    alarm.start()
    result: dict[str, Any] = {}
    samples = bytearray()
    if names_devices:
        line = program.stdout.readline()
        result["devices"] = json.loads(line) if line else []
    while block := program.stdout.read1():
        result.setdefault("began", time.monotonic())
        result["ended"] = time.monotonic()
        samples += block
    code = program.wait()
    alarm.cancel()
    listener.join()
    program.stdout.close()
    program.stderr.close()
    if code:
        said = [line.decode(errors="replace").strip() for line in complaints if line.strip()]
        result["error"] = said[-1] if said else f"it ended with code {code}"
    return {**result, **measured(samples)}


def measured(data: bytearray) -> dict[str, Any]:
    heard = array.array("h", bytes(data[: len(data) // 2 * 2]))
    if not heard:
        return {"frames": 0, "rms_dbfs": None, "peak": 0, "clipped": 0}
    mean = sum(heard) / len(heard)
    power = sum(sample * sample for sample in heard) / len(heard) - mean * mean
    return {
        "frames": len(heard),
        "rms_dbfs": round(10 * math.log10(power / FULL_SCALE**2), 1) if power > 1e-3 else None,
        "peak": max(map(abs, heard)),
        "clipped": sum(1 for sample in heard if abs(sample) >= FULL_SCALE),
    }


def captured(settings: dict[str, Any]) -> int | None:
    """Frames that the agent has captured; None when it does not answer."""
    frames = health(settings).get("audio", {}).get("frames_captured")
    return None if frames is None else int(frames)


def main() -> None:
    settings = configuration()
    alsa = ["-q", "-t", "raw", "-f", "S16_LE"]
    jobs: dict[str, tuple[list[str], bool]] = {
        f"arecord at {rate} Hz": (
            ["arecord", "-D", "shared_mic", *alsa, "-c", "1", "-r", str(rate), "-d", str(SECONDS)],
            False,
        )
        for rate in RATES
    }
    wanted = {f"arecord at {rate} Hz": rate * SECONDS for rate in RATES}
    if Path("/opt/pinna/current/bin/python3").exists():
        jobs["sounddevice"] = (["/opt/pinna/current/bin/python3", "-c", SOUNDDEVICE], True)
    if any(Path("/usr/lib/python3/dist-packages").glob("*pyaudio*")):
        jobs["pyaudio"] = (["/usr/bin/python3", "-c", PYAUDIO], True)
    if settings.get("audio", {}).get("output") != "none":
        silence = ["aplay", "-D", "shared_speaker", *alsa, "-c", "2", "-r", "48000", "-d", "1", "/dev/zero"]
        jobs["speaker"] = (silence, False)
    before = captured(settings)
    heard: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda name: heard.update({name: hear(*jobs[name])}), args=(name,))
        for name in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    absent = dict.fromkeys({"sounddevice", "pyaudio", "speaker"} - heard.keys())
    print(json.dumps({**heard, **absent, "wanted": wanted, "agent": [before, captured(settings)]}))


if __name__ == "__main__":
    main()
