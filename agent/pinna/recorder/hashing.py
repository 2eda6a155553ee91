"""What finished files still need: a checksum in the manifest, and of streams the waveform.

A thread makes them that gives way to everything else.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import structlog

from pinna.recorder.disk import peaks_of
from pinna.recorder.manifest import Manifest
from pinna.recorder.verify import sha256

log = structlog.get_logger(__name__)

NICENESS: Final = 10
"""A tenth of what a busy program gets. SCHED_IDLE got nothing for as long as all processors were busy."""


class Hasher:
    """What is not done when it is stopped is done after the next start (`recover` finds it)."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Path, Manifest | None] | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hasher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, path: Path, manifest: Manifest) -> None:
        self._jobs.put((path, manifest))

    def draw(self, path: Path) -> None:
        """The waveform alone."""
        self._jobs.put((path, None))

    def stop(self, deadline: float) -> None:
        """Wait for what is left to hash, until `deadline` (monotonic)."""
        self._ending.set()
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # a container may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # of this thread (nice(2))
        while (job := self._jobs.get()) is not None:
            path, manifest = job
            if not self._ending.is_set():
                self._draw(path)
            if manifest is not None:
                self._hash(path, manifest)

    def _draw(self, path: Path) -> None:
        """Samples were drawn when they were written, and are looked through; streams are decoded now."""
        try:
            if not path.exists():
                return
            if peaks_of(path).exists():
                from pinna.recorder import peaks  # noqa: PLC0415  (NumPy, which recording streams does without)

                peaks.complete(path, self._ending.is_set)
            else:
                self._draw_elsewhere(path)
        except OSError as error:
            log.warning("recorder.not_drawn", file=str(path), cause=error.strerror)

    def _draw_elsewhere(self, path: Path) -> None:
        """By another process, as nice as this thread: what came from the network may bring down a decoder."""
        command = [sys.executable, "-m", "pinna.recorder.peaks", str(path)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:  # noqa: S603  (our own words)
            while (code := _wait(process)) is None:
                if self._ending.is_set():
                    process.kill()  # it is drawn after the next start
                    return
        if code:
            log.warning("recorder.not_drawn", file=str(path), cause=f"its decoder ended with code {code}")

    def _hash(self, path: Path, manifest: Manifest) -> None:
        try:
            if path.exists():
                manifest.append({"kind": "sha256", "file": path.name, "sha256": sha256(path)})
        except OSError as error:
            log.warning("recorder.not_hashed", file=str(path), cause=error.strerror)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Its exit code; None when it has none yet after half a second."""
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        return None
