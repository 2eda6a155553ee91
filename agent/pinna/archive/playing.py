"""Sound over HTTP: files with ranges, growing ones as if they were finished, and clips."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from pinna.archive import growing
from pinna.archive.growing import View, ViewFile
from pinna.archive.library import Found, Library, form_of, number
from pinna.recorder.decoding import open_sound
from pinna.recorder.formats import Form, wav

_TYPES: Final = {
    **{".wav": "audio/wav", ".flac": "audio/flac", ".opus": "audio/ogg", ".ogg": "audio/ogg"},
    **{".oga": "audio/ogg", ".mp3": "audio/mpeg", ".aac": "audio/aac"},
}
CHUNK_BYTES: Final = 1 << 18
MOST_CLIP_SECONDS: Final = 600.0
MOST_LISTENERS: Final = 64
STALLED_SECONDS: Final = 60.0
"""Who takes nothing for so long loses the seat. A player that pauses asks for the rest when it goes on."""

_FOREVER: Final = 1e9

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Playing:
    def __init__(self, library: Library) -> None:
        self._library = library
        self._listeners = 0

    def add_to(self, app: web.Application) -> None:
        for path, answer in (
            ("/stream/{source}/{day}/{name}", self._play),
            ("/download/{source}/{day}/{name}", self._download),
            ("/api/clip", self._clip),
        ):
            app.router.add_get(path, self._seated(answer))

    def _seated(self, answer: Handler) -> Handler:
        """Who takes the sound slowly, or not at all, takes a seat, and not the archive from everybody."""

        async def seated(request: web.Request) -> web.StreamResponse:
            if self._listeners >= MOST_LISTENERS:
                raise web.HTTPServiceUnavailable(
                    text=f"{MOST_LISTENERS} are listening already", headers={hdrs.RETRY_AFTER: "10"}
                )
            self._listeners += 1
            try:
                _let_go_of_who_stalls(request)
                return await answer(request)
            finally:
                self._listeners -= 1

        return seated

    async def _play(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "inline")

    async def _download(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "attachment")

    async def _file(self, request: web.Request, disposition: str) -> web.StreamResponse:
        found = await self._library.find(*(request.match_info[key] for key in ("source", "day", "name")))
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: _TYPES.get(found.path.suffix, "application/octet-stream"),
            hdrs.CONTENT_DISPOSITION: f'{disposition}; filename="{found.path.name}"',
            hdrs.CACHE_CONTROL: "no-cache",
        }
        try:
            view = await asyncio.to_thread(_wanted_view, request, found)
        except OSError as error:  # retention was quicker
            raise web.HTTPNotFound(text=f"there is no such recording any more: {error.strerror}") from error
        if view is None:
            whole = _WholeFile(found.path, headers=headers)
            with _leaving(request):
                await whole.prepare(request)  # sends it
            return whole
        return await _send(request, view, headers)

    async def _clip(self, request: web.Request) -> web.StreamResponse:
        """16-bit WAV of `start` to `end`, in seconds from the beginning of the file."""
        start = number(request, "start", 0.0, 0.0, _FOREVER)
        end = number(request, "end", _FOREVER, 0.0, _FOREVER)
        found = await self._library.find_by_query(request)
        sound = await asyncio.to_thread(_open_sound, found)
        try:
            rate, channels = sound.samplerate, sound.channels
            first, last = round(start * rate), min(round(end * rate), sound.frames)
            if first >= last:
                raise web.HTTPBadRequest(
                    text="the clip is empty: start must come before end, inside the file"
                )
            if last - first > MOST_CLIP_SECONDS * rate:
                raise web.HTTPBadRequest(text=f"a clip is {MOST_CLIP_SECONDS:g} seconds at most")
            name = f"{found.path.stem}_{start:.1f}s-{last / rate:.1f}s.wav"
            head = wav.header(Form("wav", rate, channels, 16), last - first)
            answer = web.StreamResponse(
                headers={
                    hdrs.CONTENT_TYPE: "audio/wav",
                    hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"',
                    hdrs.CACHE_CONTROL: "no-store",
                }
            )
            answer.content_length = len(head) + (last - first) * channels * 2
            with _leaving(request):
                await answer.prepare(request)
                if request.method != hdrs.METH_HEAD:
                    await answer.write(head)
                    async for block in _samples(sound, first, last):
                        await answer.write(block)
            return answer
        finally:
            await asyncio.to_thread(sound.close)


def _let_go_of_who_stalls(request: web.Request) -> None:
    """The kernel closes the connection then (tcp(7)): also while `sendfile` waits, which has no time-out."""
    link = request.transport.get_extra_info("socket") if request.transport else None
    if link is not None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * STALLED_SECONDS))


class _WholeFile(web.FileResponse):
    """Sent while the seat is held, and not again: aiohttp prepares what a handler returns, however it is."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


@contextlib.contextmanager
def _leaving(request: web.Request) -> Iterator[None]:
    """Players often leave in the middle, or are let go: no error, and there is nobody to be told."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()


def _wanted_view(request: web.Request, found: Found) -> View | None:
    """None: the finished file as it is. `bytes` and `samples` ask for an earlier, shorter state of it.

    A player asks piece by piece while the file grows, and even ends: what it began with stays what it was.
    """
    if "bytes" in request.query:
        size = int(number(request, "bytes", 0, 0, found.path.stat().st_size))
        samples = int(number(request, "samples", 0, 0, 2**36 - 1)) if "samples" in request.query else None
        return growing.view(found.path, form_of(found.row), size, samples)
    return found.view


async def _send(request: web.Request, view: View, headers: dict[str, str]) -> web.StreamResponse:
    tag = f'"{view.size:x}-{len(view.head):x}"'
    answer = web.StreamResponse(headers={**headers, hdrs.ETAG: tag, hdrs.ACCEPT_RANGES: "bytes"})
    if any(known.value in (tag.strip('"'), "*") for known in request.if_none_match or ()):
        answer.set_status(304)
        await answer.prepare(request)
        return answer
    begin, end = 0, view.size
    if hdrs.RANGE in request.headers and request.headers.get(hdrs.IF_RANGE, tag) == tag:
        try:
            begin, end, _ = request.http_range.indices(view.size)
        except ValueError:
            end = 0
        if begin >= end:
            raise web.HTTPRequestRangeNotSatisfiable(headers={hdrs.CONTENT_RANGE: f"bytes */{view.size}"})
        answer.set_status(206)
        answer.headers[hdrs.CONTENT_RANGE] = f"bytes {begin}-{end - 1}/{view.size}"
    answer.content_length = end - begin
    with _leaving(request):
        await answer.prepare(request)
        while begin < end and request.method != hdrs.METH_HEAD:
            block = await asyncio.to_thread(view.read, begin, min(CHUNK_BYTES, end - begin))
            if not block:
                raise OSError(f"{view.path.name} has become shorter")
            await answer.write(block)
            begin += len(block)
    return answer


def _open_sound(found: Found) -> Any:
    """What `decoding.open_sound` gives. Raises HTTPException for what cannot be decoded, or is gone."""
    view = found.view
    try:
        return open_sound(found.path if view is None else ViewFile(view))
    except ValueError as error:
        raise web.HTTPUnsupportedMediaType(
            text=f"{found.path.suffix[1:].upper()} cannot be decoded ({error})"
        ) from error
    except OSError as error:  # retention was quicker
        raise web.HTTPNotFound(text=f"there is no such recording any more: {error.strerror}") from error


async def _samples(sound: Any, first: int, last: int) -> AsyncIterator[bytes]:
    """Second by second, little-endian. Raises OSError where the file holds less than it says."""
    await asyncio.to_thread(sound.seek, first)
    while first < last:
        count = min(sound.samplerate, last - first)
        block = await asyncio.to_thread(sound.read, count, "int16", True)
        if not len(block):
            raise OSError(f"{Path(str(sound.name)).name} ends early")
        first += len(block)
        yield block.astype("<i2").tobytes()
