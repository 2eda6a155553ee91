"""Between the thread that captures and the one that writes."""

from __future__ import annotations

import queue
import threading

from pinna.recorder.events import Chunk, Event, Lost, Units
from pinna.recorder.formats import Form


class Backlog:
    """Never waits; what does not fit is dropped and counted.

    Bounded in bytes. A drop is one Lost event in the place of what is missing, exact to the sample.
    """

    def __init__(self, most_bytes: int, form: Form) -> None:
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._most = most_bytes
        self._form = form
        self._bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()  # held for an addition

    def put(self, event: Event) -> None:
        if isinstance(event, Chunk | Units):
            with self._lock:
                if self._bytes + event.size > self._most:
                    self._dropped += event.samples(self._form)
                    return
                self._bytes += event.size
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            self._queue.put(Lost("overload", lost, "the disk was too slow", estimated=False))
        self._queue.put(event)

    def end(self) -> None:
        if self._dropped:
            self._queue.put(Lost("overload", self._dropped, "the disk was too slow", estimated=False))
        self._queue.put(None)

    def get(self, timeout: float) -> Event | None:
        """The next event; None at the end. Raises queue.Empty."""
        event = self._queue.get(timeout=timeout)
        if isinstance(event, Chunk | Units):
            with self._lock:
                self._bytes -= event.size
        return event
