"""arecord in a process of its own against PortAudio in ours, on a card that loses samples as real ones do.

Both ask for a ring of half a second, record at the same time and suffer the same. Samples lost are counted
by the numbers that they carry, beside what each says of its losses. Run as a program it is one of the two.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from tests.support.counting import CHANNELS, PCM, RATE, card, lost, numbers
from tests.support.waiting import eventually

from pinna.recorder.capture import SoundCard
from pinna.recorder.events import Chunk, Event, Lost
from pinna.recorder.formats import Form

RING_SECONDS = 0.5
STILL_SECONDS = 1.0
TIMES = 3
WHO = {"arecord": "arecord, as pinna record has it", "portaudio": "PortAudio (sounddevice)"}


def run(quick: bool) -> Iterator[dict[str, Any]]:
    for what, disturb in {
        "nothing": lambda _: time.sleep(10 if quick else 30),
        f"{4 * (os.cpu_count() or 1)} busy programs": lambda _: busy(10 if quick else 30),
        f"{TIMES} × {STILL_SECONDS:g} s of stillness of the recorder": lambda those: still(those, tree=False),
        f"{TIMES} × {STILL_SECONDS:g} s of stillness of all of it": lambda those: still(those, tree=True),
        f"{TIMES} × another card comes back": again,
    }.items():
        yield from suffered(what, disturb)


def suffered(what: str, disturb: Callable[[list[psutil.Process]], object]) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        environment = card(Path(name))
        words = [sys.executable, "-m", "tests.bench.capturing"]
        both = {
            who: subprocess.Popen([*words, who], env=environment, stdout=subprocess.PIPE, text=True)
            for who in WHO
        }
        try:
            for process in both.values():
                assert process.stdout is not None
                assert process.stdout.readline() == "hears\n"
            disturb([psutil.Process(process.pid) for process in both.values()])
        finally:
            for process in both.values():
                process.terminate()
            told = {who: process.communicate(timeout=60)[0] for who, process in both.items()}
    for who, text in told.items():
        found = json.loads(text)
        yield {"capturing": WHO[who], "beside it": what, **found}


def busy(seconds: float) -> None:
    hogs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))
    ]
    try:
        time.sleep(seconds)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def still(those: list[psutil.Process], *, tree: bool) -> None:
    for _ in range(TIMES):
        stopped = [part for one in those for part in (one, *(one.children() if tree else ()))]
        for one in stopped:
            one.suspend()
        time.sleep(STILL_SECONDS)
        for one in stopped:
            one.resume()
        time.sleep(2.0)


def again(those: list[psutil.Process]) -> None:
    for _ in range(TIMES):
        for one in those:
            one.send_signal(signal.SIGUSR1)
        time.sleep(3.0)


# One of the two


class ByArecord:
    """What `pinna record` does, up to the events of its capturing thread."""

    def __init__(self) -> None:
        self._form = Form("wav", RATE, CHANNELS, 16)
        self.events: list[Event] = []
        self._cards = [self._card(self.events.append), self._card(lambda _: None)]

    def _card(self, deliver: Callable[[Event], None]) -> SoundCard:
        source = SoundCard("mic", PCM, self._form, deliver)
        source.start()
        return source

    def another_comes_back(self) -> None:
        old = self._cards.pop()
        old.stop()
        old.join(10)
        self._cards.append(self._card(lambda _: None))

    def end(self) -> dict[str, Any]:
        for source in self._cards:
            source.stop()
            source.join(10)
        said = sum(event.samples for event in self.events if isinstance(event, Lost))
        return {"lost, samples": lost(numbers(self.data)), "said to be lost": said}

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Chunk))


class ByPortAudio:
    """A callback that only copies. PortAudio sees a card that comes back only if it begins anew."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._overflows = 0
        self._open()

    def _open(self) -> None:
        import sounddevice  # noqa: PLC0415  (the other of the two does without)

        def hear(data: Any, _frames: int, _time: Any, status: Any) -> None:
            self._blocks.append(bytes(data))
            self._overflows += bool(status.input_overflow)

        kind = {"samplerate": RATE, "channels": CHANNELS, "dtype": "int16", "latency": RING_SECONDS}
        self._streams = [sounddevice.RawInputStream(device=PCM, callback=hear, **kind)]
        self._streams += [sounddevice.RawInputStream(device=PCM, callback=lambda *_: None, **kind)]
        for stream in self._streams:
            stream.start()

    def another_comes_back(self) -> None:
        import sounddevice  # noqa: PLC0415  (as above)

        for stream in self._streams:
            stream.close()
        sounddevice._terminate()
        sounddevice._initialize()
        self._open()

    def end(self) -> dict[str, Any]:
        for stream in self._streams:
            stream.close()
        return {
            "lost, samples": lost(numbers(self.data)),
            "said to be lost": f"{self._overflows} overflow{'s' * (self._overflows != 1)}",
        }

    @property
    def data(self) -> bytes:
        return b"".join(self._blocks)


def main(who: str) -> None:
    ending, returning = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGUSR1, lambda *_: returning.set())
    with contextlib.redirect_stdout(sys.stderr):  # the log
        source = {"arecord": ByArecord, "portaudio": ByPortAudio}[who]()
        eventually(lambda: len(source.data) > 2 * RATE * CHANNELS * 2, 60, what=f"{who} hears")
        print("hears", file=sys.__stdout__, flush=True)
        while not ending.wait(0.1):
            if returning.is_set():
                returning.clear()
                source.another_comes_back()
        heard = len(source.data)
        eventually(lambda: len(source.data) > heard, 20, what=f"{who} still hears")
        print(json.dumps(source.end()), file=sys.__stdout__)


if __name__ == "__main__":
    main(sys.argv[1])
