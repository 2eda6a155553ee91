"""What a program in this container hears of the microphone, by PyAudio and by sounddevice: one JSON object.

    {"pyaudio": {"devices": ["shared_mic", ...], "frames": 48000, "rms": 812.5, "peak": 3277},
     "sounddevice": {...}}

`rms` and `peak` are of 16-bit samples. A library that fails has `error`. Exit code 1 unless both heard
something. Each library runs in a process of its own: PortAudio can end one.
"""

import array
import json
import math
import subprocess
import sys

DEVICE = "shared_mic"
RATE = 48000
FRAMES = RATE  # one second
BLOCK = 960
PATIENCE_SECONDS = 180  # a busy Pi needs one to load a library


def with_pyaudio():
    import pyaudio  # noqa: PLC0415  (each library in its own process)

    audio = pyaudio.PyAudio()
    try:
        names = [str(audio.get_device_info_by_index(i)["name"]) for i in range(audio.get_device_count())]
        yield names
        index = names.index(DEVICE)
        stream = audio.open(RATE, 1, pyaudio.paInt16, True, input_device_index=index, frames_per_buffer=BLOCK)
        yield b"".join(stream.read(BLOCK, exception_on_overflow=False) for _ in range(FRAMES // BLOCK))
        stream.close()
    finally:
        audio.terminate()


def with_sounddevice():
    import sounddevice  # noqa: PLC0415  (as above)

    names = [str(device["name"]) for device in sounddevice.query_devices()]
    yield names
    with sounddevice.RawInputStream(RATE, BLOCK, names.index(DEVICE), 1, "int16") as stream:
        yield b"".join(bytes(stream.read(BLOCK)[0]) for _ in range(FRAMES // BLOCK))


LIBRARIES = {"pyaudio": with_pyaudio, "sounddevice": with_sounddevice}


def hear(library):
    """What one library finds and hears. Raises whatever it raises."""
    steps = LIBRARIES[library]()
    found = {"devices": next(steps)}
    if DEVICE not in found["devices"]:
        return {**found, "error": f"PortAudio does not list {DEVICE}"}
    samples = array.array("h", next(steps))
    for _ in steps:
        pass
    power = sum(sample * sample for sample in samples) / len(samples)
    peak = max(abs(sample) for sample in samples)
    return {**found, "frames": len(samples), "rms": round(math.sqrt(power), 1), "peak": peak}


def in_own_process(library):
    command = [sys.executable, __file__, library]
    try:
        done = subprocess.run(  # noqa: S603  (this very file)
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {PATIENCE_SECONDS} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return {"error": said[-1], "log": said[-12:-1]}
    return json.loads(done.stdout)


def main():
    if len(sys.argv) > 1:
        print(json.dumps(hear(sys.argv[1])))  # noqa: T201  (its answer)
        return 0
    heard = {library: in_own_process(library) for library in LIBRARIES}
    print(json.dumps(heard))  # noqa: T201  (its answer)
    return 0 if all(each.get("peak", 0) > 0 for each in heard.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
