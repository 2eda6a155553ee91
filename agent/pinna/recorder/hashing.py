"""Checksums of finished files, written to the manifest by a thread that gives way to everything else."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from pathlib import Path

import structlog

from pinna.recorder.manifest import Manifest
from pinna.recorder.verify import sha256

log = structlog.get_logger(__name__)


class Hasher:
    """What is not done when it is stopped is done after the next start (`recover` finds it)."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Path, Manifest] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="hasher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, path: Path, manifest: Manifest) -> None:
        self._jobs.put((path, manifest))

    def stop(self, deadline: float) -> None:
        """Wait for what is left, until `deadline` (monotonic)."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # of this thread (sched(7))
        while (job := self._jobs.get()) is not None:
            path, manifest = job
            try:
                if path.exists():
                    line = {"kind": "sha256", "file": path.name, "sha256": sha256(path)}
                    manifest.append(line)
            except OSError as error:
                log.warning("recorder.not_hashed", file=str(path), cause=error.strerror)
