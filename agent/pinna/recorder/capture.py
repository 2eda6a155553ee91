"""A sound card, recorded by `arecord` in a process of its own.

A process each, because alsa-lib's plugins can hang or abort whoever loads them, and PortAudio freezes its
list of devices for all of a process: one lost card must not cost the other sources a sample. The pipe holds
what arrives while we are busy; behind it, a queue that the disk may lag behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

import structlog

from pinna.errors import DeviceError
from pinna.recorder.continuity import Continuity
from pinna.recorder.events import Chunk, Deliver, Down, Event
from pinna.recorder.formats import Form

PIPE_BYTES: Final = 1 << 20
"""The most that Linux gives to any user (fs.pipe-max-size); eleven seconds of 48 kHz mono."""

BUFFER_US: Final = 500_000
SILENT_SECONDS: Final = 5.0
"""A card that gives nothing for so long is gone, though arecord still waits for it."""

RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
STEADY_SECONDS: Final = 10.0
HINT: Final = "It is tried again and again; `pinna record --list-devices` shows what `device` may name"
_OVERRUN = re.compile(r"overrun!+ \(at least [0-9.]+ ms long\)")
_WRONG_RATE = re.compile(r"rate is not accurate \(requested = (\d+)Hz, got = (\d+)Hz\)")
_CHATTER = ("Recording raw data", "Aborted by signal")

log = structlog.get_logger(__name__)


class SoundCard(threading.Thread):
    """Delivers what the PCM `device` gives, for ever, until `stop`; then everything that was captured."""

    def __init__(self, source: str, device: str, form: Form, deliver: Deliver) -> None:
        super().__init__(name=f"capture {source}", daemon=True)
        self._source = source
        self._device = device
        self._form = form
        self._deliver = deliver
        self._ending = threading.Event()
        self._rest = b""
        self._said = b""
        self._continuity = Continuity(form.rate)
        self._failures = 0
        self._silent_since = 0.0

    def stop(self) -> None:
        self._ending.set()

    def run(self) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                detail = self._record()
            except (DeviceError, OSError) as error:
                detail = str(error)
            if self._ending.is_set():
                return
            if time.monotonic() - began > STEADY_SECONDS:
                self._failures = 0
            self._deliver(Down("unplug", detail))
            self._tell("recorder.card_lost", device=self._device, cause=detail, hint=HINT)
            self._ending.wait(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)])
            self._failures += 1

    def _tell(self, event: str, **words: str) -> None:
        """The first time aloud; what only repeats itself, for those who look for it."""
        (log.debug if self._failures else log.warning)(event, source=self._source, **words)

    def _record(self) -> str:
        """Record until the card is gone or we are told to stop; why it ended."""
        program = shutil.which("arecord")
        if program is None:
            raise DeviceError("arecord is not installed", hint="Install it: sudo apt install alsa-utils")
        device = resolve(self._device, list_pcms())
        command = [program, "-D", device, "-t", "raw", "-f", self._form.alsa_format, "-B", str(BUFFER_US)]
        command += ["-r", str(self._form.rate), "-c", str(self._form.channels)]
        with subprocess.Popen(  # noqa: S603  (a list of words, no shell; the device is the operator's)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C"},
            bufsize=0,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            with contextlib.suppress(OSError):  # a limit lower than usual
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            self._rest = self._said = b""
            self._continuity = Continuity(self._form.rate)
            try:
                said = self._pump(process, process.stdout, process.stderr)
            finally:
                self._deliver_all(self._continuity.end())
                if process.poll() is None:
                    process.kill()
        return said or f"arecord ended with code {process.returncode} and said nothing"

    def _pump(self, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]) -> str:
        """Pass on sound and complaints until arecord ends; its last two complaints."""
        said: list[str] = []
        stopping = False
        self._silent_since = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for pipe in (out, err):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                if self._ending.is_set() and not stopping:
                    process.send_signal(signal.SIGTERM)  # what it has captured is still in the pipe
                    stopping = True
                    self._silent_since = time.monotonic()
                for key, _ in selector.select(0.1):
                    data = os.read(key.fd, PIPE_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is out:
                        self._hear(data)
                    else:
                        said = [*said, *self._listen(data)][-2:]
                if time.monotonic() - self._silent_since > SILENT_SECONDS:
                    return f"no sound from {self._device} for {SILENT_SECONDS:g} s"
        return "; ".join(said)

    def _hear(self, data: bytes) -> None:
        self._silent_since = at = time.monotonic()
        data = self._rest + data
        whole = len(data) - len(data) % self._form.raw_bytes
        self._rest = data[whole:]
        if whole:
            chunk = Chunk(data[:whole], at)
            self._deliver_all(self._continuity.take(chunk, chunk.samples(self._form)))

    def _deliver_all(self, events: Sequence[Event]) -> None:
        for event in events:
            self._deliver(event)

    def _listen(self, data: bytes) -> list[str]:
        """Log what arecord says; the lines of trouble. Raises DeviceError for a wrong speed."""
        *lines, self._said = (self._said + data).split(b"\n")
        trouble = []
        for line in (line.decode(errors="replace").strip() for line in lines):
            if not line or line.startswith(_CHATTER) or (self._ending.is_set() and "Interrupted" in line):
                continue
            if match := _WRONG_RATE.search(line):
                raise DeviceError(
                    f"{self._device} records at {match[2]} Hz, not at {match[1]}",
                    hint=f"Set rate = {match[2]}, or name a PCM that converts (plughw:…)",
                )
            if _OVERRUN.search(line):
                self._deliver_all(self._continuity.overrun(line))
            self._tell("recorder.arecord_says", line=line)
            trouble.append(line)
        return trouble


@dataclass(frozen=True, slots=True)
class Pcm:
    """What `device` may name: a PCM, and in words what it is."""

    name: str
    description: str


def list_pcms() -> list[Pcm]:
    """Cards with sound to record, then named PCMs, as arecord lists them."""
    cards = [
        Pcm(f"plughw:CARD={card},DEV={device}", f"{name}, {what}")
        for card, name, device, what in re.findall(
            r"^card \d+: (\S+) \[(.*?)\], device (\d+): .*?\[(.*?)\]$", _arecord("-l"), re.MULTILINE
        )
    ]
    found: list[Pcm] = []
    for line in _arecord("-L").splitlines():
        if line[:1].isspace():
            words = " ".join(filter(None, (found[-1].description, line.strip())))
            found[-1] = Pcm(found[-1].name, words)
        elif line:
            found.append(Pcm(line, ""))
    known = {"null", *(card.name for card in cards)}
    return cards + [pcm for pcm in found if pcm.name not in known]


def resolve(wanted: str, pcms: list[Pcm]) -> str:
    """The PCM meant by `default`, `monitor`, `hw:X,Y`, its name, or a part of exactly one card's name.

    Through plug: asked for a rate that a card lacks, arecord would warn and record at the wrong speed.
    A name that is on no list is left to ALSA, which knows PCMs that do not show themselves.
    """
    name = wanted.strip()
    if re.fullmatch(r"hw:\w+(=\w+)?(,\w+(=\w+)?)*", name):
        return f"plug{name}"
    if name == "default" or name in {pcm.name for pcm in pcms}:
        return name
    part = "loopback" if name == "monitor" else name.casefold()
    fits = [
        pcm.name
        for pcm in pcms
        if pcm.name.startswith("plughw:") and part in f"{pcm.name} {pcm.description}".casefold()
    ]
    fits = list(dict.fromkeys(fits))
    if len(fits) > 1:
        raise DeviceError(
            f"device = {wanted!r} fits {len(fits)} cards: {', '.join(fits)}", hint="Give one of these names"
        )
    if not fits and name == "monitor":
        raise DeviceError(
            "device = 'monitor' needs a loopback card, and there is none",
            hint="Load it: sudo modprobe snd-aloop",
        )
    return fits[0] if fits else name


def _arecord(option: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  (our own words)
            [shutil.which("arecord") or "arecord", option],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
