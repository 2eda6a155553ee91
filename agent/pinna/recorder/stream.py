"""A radio stream, kept bit by bit: HTTP in, whole frames or pages out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

import structlog

from pinna.recorder.events import Begins, Deliver, Down, Event, Lost, Title, Unit, Units
from pinna.recorder.formats import Form, mpeg, ogg
from pinna.recorder.icy import Answer, StreamError, Titles, shown

RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_SECONDS: Final = 30.0
BURST_SECONDS: Final = 1.0
"""Servers begin with some seconds of the past at once; only after that does arrival tell the time."""

UNKNOWN_BYTES: Final = 1 << 18
"""So much without a frame is no stream that we know."""

log = structlog.get_logger(__name__)


class Stream(threading.Thread):
    """Delivers what `url` gives, for ever, until `stop`."""

    def __init__(self, source: str, url: str, deliver: Deliver) -> None:
        super().__init__(name=f"stream {source}", daemon=True)
        self._source = source
        self._url = url
        self._deliver = deliver
        self._ending = threading.Event()
        self._answer: Answer | None = None
        self._failures = 0

    def stop(self) -> None:
        self._ending.set()
        answer = self._answer
        if answer is not None:
            answer.close()

    def run(self) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            hint = "It is tried again and again"
            try:
                self._receive()
                detail = "the server ended the stream"
            except StreamError as error:
                detail, hint = error.cause, error.hint
            except (OSError, ValueError) as error:
                detail = f"nothing came for {10:g} s" if isinstance(error, TimeoutError) else str(error)
            if self._ending.is_set():
                return
            if time.monotonic() - began > STEADY_SECONDS:
                self._failures = 0
            self._deliver(Down("disconnect", detail))
            tell = log.debug if self._failures else log.warning
            tell("recorder.stream_lost", source=self._source, url=shown(self._url), cause=detail, hint=hint)
            self._ending.wait(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)])
            self._failures += 1

    def _receive(self) -> None:
        answer = self._answer = Answer(self._url)
        waiting: list[Unit] = []
        try:
            if self._ending.is_set():
                return
            parser = Parser()
            titles = Titles(answer.metaint)
            first_at: float | None = None
            while data := answer.read():
                at = time.monotonic()
                for sound, title in titles.feed(data):
                    if title is not None:
                        self._deliver(Title(title))
                    for event in parser.feed(sound):
                        if isinstance(event, Unit):
                            waiting.append(event)
                        else:
                            waiting = self._flush(waiting, at)
                            self._deliver(event)
                first_at = at if first_at is None and waiting else first_at
                if first_at is not None and at - first_at >= BURST_SECONDS:
                    waiting = self._flush(waiting, at)
        finally:
            self._flush(waiting, time.monotonic())  # also of a stream that ends, or is ended, amid its burst
            answer.close()
            self._answer = None

    def _flush(self, waiting: list[Unit], at: float) -> list[Unit]:
        if waiting:
            self._deliver(Units(tuple(waiting), at))
        return []


class Parser:
    """Tells Ogg from MPEG by the first bytes. Raises StreamError for what is neither."""

    def __init__(self) -> None:
        self._head = b""
        self._pager: ogg.Pager | None = None
        self._framer: mpeg.Framer | None = None
        self._form: Form | None = None
        self._barren = 0

    def feed(self, data: bytes) -> Iterator[Event | Unit]:
        if self._pager is None and self._framer is None:
            self._head += data
            if len(self._head) < 4:
                return
            data = self._head
            if data.startswith(b"OggS"):
                self._pager = ogg.Pager()
            else:
                self._framer = mpeg.Framer()
        self._barren += len(data)
        for event in self._pages(data) if self._pager else self._frames(data):
            self._barren = 0
            yield event
        if self._barren > UNKNOWN_BYTES:
            raise StreamError(
                f"the stream is of no known format; it begins {self._head[:8]!r}",
                hint="MP3, AAC (ADTS) and Ogg (Opus, Vorbis, FLAC) are understood",
            )

    def _pages(self, data: bytes) -> Iterator[Event | Unit]:
        assert self._pager is not None
        for found in self._pager.feed(data):
            if isinstance(found, ogg.Start):
                known = found.codec
                self._form = Form(f"ogg-{known.name}", known.rate, known.channels, 0)
                yield Begins(self._form, found.header)
            elif isinstance(found, ogg.Missing):
                yield Lost("disconnect", found.samples, f"{found.pages} Ogg pages never came")
                if self._form is not None:
                    yield Begins(
                        self._form, found.header
                    )  # a file of its own: granules count across the hole
            else:
                yield Unit(found.page.data, found.samples, found.before)

    def _frames(self, data: bytes) -> Iterator[Event | Unit]:
        assert self._framer is not None
        for frame in self._framer.feed(data):
            if frame.header is None:
                yield Unit(frame.data, 0)
                continue
            head = frame.header
            form = Form(head.format, head.rate, head.channels, 0)
            if form != self._form:
                self._form = form
                yield Begins(form, b"")
            yield Unit(frame.data, head.samples)
