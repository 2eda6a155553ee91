"""`pinna record`: the threads of all sources, what watches over them, and their end.

per source:  capture thread -> backlog -> writing thread (Track)
for all:     a hashing thread of low priority; one that deletes what is too old; the main thread, which
             keeps the disk's reserve, writes status.json and waits for the end
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any, Final

import structlog

from pinna.errors import PinnaError, StorageError
from pinna.health import SystemdNotifier
from pinna.recorder import formats
from pinna.recorder.backlog import Backlog
from pinna.recorder.capture import SoundCard
from pinna.recorder.clock import Clock, iso, quality
from pinna.recorder.disk import reason_of
from pinna.recorder.formats import Form
from pinna.recorder.hashing import Hasher
from pinna.recorder.icy import shown
from pinna.recorder.manifest import Account
from pinna.recorder.recover import recover
from pinna.recorder.retention import Keeper, abandoned
from pinna.recorder.settings import Settings, Source
from pinna.recorder.stream import Stream
from pinna.recorder.track import Plan, Track

STATUS_SECONDS: Final = 2.0
SYNC_SECONDS: Final = 0.8
"""With the second that an Opus encoder holds back, a power cut takes less than two."""

STOP_SECONDS: Final = 25.0
"""For all sources together: Docker and systemd are told to wait 30."""

FINISH_SECONDS: Final = 5.0
"""Of these, for files to be finished, whatever a source still waits for."""

BACKLOG_SECONDS: Final = 30
STREAM_BACKLOG_BYTES: Final = 4 << 20
_STREAM: Final = Form("unknown", 48_000, 0, 0)
"""Of a stream that has not begun."""

log = structlog.get_logger(__name__)


class Recording:
    """One source: its capturing and its writing thread."""

    def __init__(self, source: Source, archive: Path, hasher: Hasher) -> None:
        """Mends what an earlier run left behind. Raises OSError or ConfigError."""
        self.source = source
        self.failed = ""
        streamed = source.type == "stream"
        form = _STREAM if streamed else Form(source.format, source.rate, source.channels, source.bits)
        formats.check(form)
        folder = archive / source.name
        folder.mkdir(parents=True, exist_ok=True)
        account = _mend(folder, hasher)
        plan = Plan(source.name, folder, form, source.split_minutes, source.zone)
        self.track = Track(plan, Clock(), hasher.add)
        self.track.resume(account)
        most_bytes = STREAM_BACKLOG_BYTES if streamed else BACKLOG_SECONDS * form.rate * form.raw_bytes
        self._backlog = Backlog(most_bytes, form)
        self._capture: SoundCard | Stream = (
            Stream(source.name, source.url, self._backlog.put)
            if streamed
            else SoundCard(source.name, source.device, form, self._backlog.put)
        )
        self._writer = threading.Thread(target=self._write, name=f"writer {source.name}", daemon=True)

    def start(self) -> None:
        self._writer.start()
        self._capture.start()

    def stop(self) -> None:
        """Begin to end."""
        self._capture.stop()

    def captured(self, seconds: float) -> bool:
        """Wait so long for the last of what is captured; the rest is on its way to the disk then."""
        self._capture.join(seconds)
        if self._capture.is_alive():
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Write what there is, and end."""
        self._backlog.end()

    def join(self, deadline: float) -> bool:
        """Whether everything that was captured is on the disk before `deadline` (monotonic)."""
        self._writer.join(max(0.0, deadline - time.monotonic()))
        return not self._writer.is_alive()

    @property
    def alive(self) -> bool:
        """Whether both its threads are there: one alone must not look like a recording."""
        return self._writer.is_alive() and self._capture.is_alive()

    def status(self) -> dict[str, Any]:
        source = self.source
        where = {"url": shown(source.url)} if source.type == "stream" else {"device": source.device}
        body = {"type": source.type, **where, **self.track.status}
        return {**body, "state": "failed", "trouble": self.failed} if self.failed else body

    def _write(self) -> None:
        try:
            self._write_until_end()
        except Exception as error:  # the other sources go on
            self.failed = str(error)
            log.exception("recorder.source_failed", source=self.source.name)

    def _write_until_end(self) -> None:
        synced = time.monotonic()
        while True:
            try:
                event = self._backlog.get(SYNC_SECONDS)
            except queue.Empty:
                pass
            else:
                if event is None:
                    break
                self.track.take(event)
            if time.monotonic() - synced >= SYNC_SECONDS:
                self.track.sync()
                synced = time.monotonic()
        self.track.close()


class Recorder:
    """All of it. Use: `with Recorder(settings) as recorder: recorder.run(stop)`."""

    def __init__(self, settings: Settings, notifier: SystemdNotifier | None = None) -> None:
        self.settings = settings
        self.recordings: list[Recording] = []
        self._notifier = notifier or SystemdNotifier()
        self._hasher = Hasher()
        self._keeper = Keeper(settings)
        self._started = time.time()
        self._refused: dict[str, str] = {}
        self._status_failed = False
        self._lock = -1

    def __enter__(self) -> Recorder:
        """Raises StorageError or ConfigError: nothing could be recorded at all."""
        for note in self.settings.notes:
            log.warning("recorder.configuration_note", note=note)
        self._lock = _lock(self.settings.directory)
        self.settings.status_file.unlink(missing_ok=True)  # of a run that was killed
        self._hasher.start()
        for source in self.settings.sources:
            try:
                self.recordings.append(Recording(source, self.settings.directory, self._hasher))
            except PinnaError as error:
                self._refuse(source, error.cause, error.hint)
            except OSError as error:
                folder = self.settings.directory / source.name
                cause = f"{folder} cannot be written: {reason_of(error)}"
                self._refuse(source, cause, "Make it a folder that this user may write to, and start again")
        if not self.recordings:
            self.__exit__()
            raise StorageError(
                f"nothing can be recorded in {self.settings.directory}",
                hint="The log says why, for each source",
            )
        for recording in self.recordings:
            recording.start()
        self._mend_abandoned()
        return self

    def _refuse(self, source: Source, cause: str, hint: str) -> None:
        self._refused[source.name] = cause
        log.error("recorder.source_refused", source=source.name, cause=cause, hint=hint)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`."""
        self._notifier.ready()
        log.info("recorder.started", sources=[recording.source.name for recording in self.recordings])
        while not stop.is_set():
            self._keeper.look([(recording.source, recording.track) for recording in self.recordings])
            self._write_status()
            if all(recording.alive for recording in self.recordings):
                self._notifier.alive()
            stop.wait(STATUS_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._notifier.stopping()
        deadline = time.monotonic() + STOP_SECONDS
        for recording in self.recordings:
            recording.stop()
        capturing = self.recordings
        while capturing and time.monotonic() < deadline - FINISH_SECONDS:
            capturing = [recording for recording in capturing if not recording.captured(0.05)]
        for recording in capturing:  # a server that lets one wait, or ALSA
            recording.finish()
        late = [recording.source.name for recording in self.recordings if not recording.join(deadline)]
        if late:
            log.error("recorder.stopped_late", sources=late)
        self._keeper.stop(deadline)
        self._hasher.stop(deadline)
        self.settings.status_file.unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
        log.info("recorder.stopped")

    def _mend_abandoned(self) -> None:
        """What a crash left of sources that have been taken out of the configuration since."""
        try:
            for name in abandoned(self.settings):
                _mend(self.settings.directory / name, self._hasher)
        except OSError as error:
            log.error("recorder.not_mended", cause=str(error))

    def _write_status(self) -> None:
        now = time.time()
        known = quality()
        body = {
            "pid": os.getpid(),
            "started": iso(self._started),
            "updated": iso(now),
            "clock": known.state,
            "sources": {
                **{name: {"state": "failed", "trouble": cause} for name, cause in self._refused.items()},
                **{recording.source.name: recording.status() for recording in self.recordings},
            },
            "disk": self._keeper.disk(),
        }
        path = self.settings.status_file
        temporary = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(body, indent=1) + "\n")
            temporary.replace(path)
        except OSError as error:
            tell = log.debug if self._status_failed else log.warning
            tell("recorder.status_not_written", path=str(path), cause=error.strerror)
            self._status_failed = True
        else:
            self._status_failed = False


def _mend(folder: Path, hasher: Hasher) -> Account:
    """What an earlier run left of a source; what is still to be computed is begun. Raises OSError."""
    recovered = recover(folder)
    for segment in recovered.unhashed:
        hasher.add(segment.path, segment.manifest)
    for segment in recovered.undrawn:
        hasher.draw(segment.path)
    return recovered.account


def _lock(directory: Path) -> int:
    """Two recorders in one archive would each take the other's open files for remains of a crash."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / ".recorder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StorageError(
            f"the archive {directory} cannot be written: {error.strerror}",
            hint="Set `directory` to a folder that this user may write to",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise StorageError(
            f"another recorder already records into {directory}",
            hint="Stop it, or set `directory` to another folder",
        ) from error
    return fd
