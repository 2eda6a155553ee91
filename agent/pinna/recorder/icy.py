"""HTTP as radio streams speak it: redirects, playlists, basic auth, ICY's answer, titles amid the sound."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from pinna import __version__
from pinna.errors import PinnaError

TIMEOUT_SECONDS: Final = 10.0
MOST_HOPS: Final = 8
PLAYLIST_BYTES: Final = 1 << 16
_PLAYLISTS: Final = ("mpegurl", "scpls", "xspf")


class StreamError(PinnaError):
    """A stream that cannot be had: why, and what to do. Tried again, as all of them may pass."""


class _Response(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        """SHOUTcast 1 answers `ICY 200 OK`, which is HTTP/1.0 but for the name."""
        if self.fp.peek(4)[:4] == b"ICY ":
            words = self.fp.readline(1024).split(None, 2)
            return "HTTP/1.0", int(words[1]), ""
        return super()._read_status()  # type: ignore[misc,no-any-return]  # not in typeshed


class Answer:
    """An open stream. `close` may be called from another thread: `read` then ends."""

    def __init__(self, url: str) -> None:
        """Connect, follow redirects and playlists. Raises StreamError."""
        for _ in range(MOST_HOPS):
            further = self._ask(url)
            if further is None:
                return
            url = further
        raise StreamError(
            f"{shown(url)} leads from one address to the next without end",
            hint="Give the stream's own address",
        )

    def _ask(self, url: str) -> str | None:
        parts = _checked(url)
        try:
            self._socket, self._response = _get(parts)
        except ssl.SSLCertVerificationError as error:
            raise StreamError(
                f"{shown(url)} is not who it says it is: {error.verify_message}",
                hint="Is the clock right? Trust its authority (update-ca-certificates), or use http://",
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StreamError(
                f"{shown(url)} does not answer: {_why(error)}", hint="Is the address right?"
            ) from error
        response = self._response
        location = response.getheader("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            self.release()
            return _onward(url, location)
        if response.status != 200:
            self.release()
            raise StreamError(
                f"{shown(url)} answers {response.status} {response.reason}".strip(),
                hint=_cure(response.status),
            )
        kind = response.getheader("Content-Type", "").lower()
        self.metaint = int(response.getheader("icy-metaint", "0") or 0)
        self.name = response.getheader("icy-name", "")
        if "text/html" in kind:
            self.release()
            raise StreamError(
                f"{shown(url)} is a web page, not a stream",
                hint="Look on it for the address of the stream itself",
            )
        if any(word in kind for word in _PLAYLISTS) or re.search(r"\.(m3u8?|pls)$", parts.path):
            text = response.read(PLAYLIST_BYTES).decode("utf-8", "replace")
            self.release()
            return _onward(url, _first_entry(url, text))
        return None

    def read(self) -> bytes:
        """Some bytes; none at the end. Raises OSError (TimeoutError when nothing came for ten seconds)."""
        try:
            return self._response.read1(1 << 16)
        except http.client.HTTPException as error:
            raise OSError(_why(error)) from error
        except ValueError as error:  # closed by another thread
            raise OSError("closed") from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def release(self) -> None:
        """The end, for who has read it; `close` alone leaves the descriptor to the garbage collector."""
        self.close()
        self._response.close()


class Titles:
    """Takes the titles out of a stream with `icy-metaint`: (sound, title or None), again and again."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._sound_left = interval
        self._block = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, str | None]]:
        if not self._interval:
            yield data, None
            return
        while data:
            if self._sound_left:
                sound, data = data[: self._sound_left], data[self._sound_left :]
                self._sound_left -= len(sound)
                yield sound, None
                continue
            needed = 1 + (self._block[0] if self._block else data[0]) * 16 - len(self._block)
            self._block += data[:needed]
            data = data[needed:]
            if len(self._block) == 1 + self._block[0] * 16:
                text = bytes(self._block[1:]).rstrip(b"\0").decode("utf-8", "replace")
                self._block.clear()
                self._sound_left = self._interval
                if found := re.search(r"StreamTitle='(.*?)';", text):
                    yield b"", found[1]


def shown(url: str) -> str:
    """The address without user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _onward(url: str, further: str) -> str:
    """Where one address leads; user name and password go along to the same host, and to no other."""
    old, new = urlsplit(url), urlsplit(urljoin(shown(url), further))
    if "@" in old.netloc and (new.scheme, new.netloc) == (old.scheme, old.netloc.rpartition("@")[2]):
        new = new._replace(netloc=old.netloc)
    return new.geturl()


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
    if not fine or re.search(r"[\s\x00-\x1f]", url):
        raise StreamError(f"{shown(url)!r} is no http address", hint="Give an http:// or https:// address")
    return parts


def _get(parts: SplitResult) -> tuple[socket.socket, http.client.HTTPResponse]:
    assert parts.hostname is not None, "checked"
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    connection.response_class = _Response
    headers = {"Icy-MetaData": "1", "User-Agent": f"pinna/{__version__}", "Accept": "*/*"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    try:
        connection.connect()
        link = connection.sock
        connection.request(
            "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=headers
        )
        return link, connection.getresponse()
    except BaseException:
        connection.close()
        raise


def _first_entry(url: str, text: str) -> str:
    if "#EXT-X-" in text:
        raise StreamError(
            f"{shown(url)} is an HLS playlist, which is not understood", hint="Give an Icecast or MP3 stream"
        )
    for line in (line.strip() for line in text.splitlines()):
        entry = re.sub(r"^File\d+\s*=\s*", "", line, flags=re.IGNORECASE)
        if entry != line or (line and not line.startswith(("#", "[")) and "=" not in line.split("/")[0]):
            return entry
    raise StreamError(f"{shown(url)} is a playlist without an entry", hint="Give the stream's own address")


def _cure(status: int) -> str:
    if status in (401, 403):
        return "Give user name and password: http://user:password@host/…"
    return (
        "Does the mount point exist, and is its source connected?" if status == 404 else "Try it in a browser"
    )


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
