"""Streams: kept bit by bit, cut at frames and pages, over servers and networks that misbehave."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from structlog.testing import capture_logs
from tests.support.radio import CODECS, Answer, Icecast, encode, icecast, server
from tests.support.ramps import ManualTime, plan
from tests.support.recorders import recorder
from tests.support.tls import secured, self_signed
from tests.support.waiting import eventually

from pinna.demo.sound import VirtualSound
from pinna.recorder import icy, peaks, service, stream
from pinna.recorder.events import Begins, Down, Event, Title, Unit, Units
from pinna.recorder.formats import Form
from pinna.recorder.hashing import Hasher
from pinna.recorder.icy import Titles
from pinna.recorder.manifest import NAME, Account, Manifest, read_account
from pinna.recorder.settings import Settings, Source
from pinna.recorder.stream import Parser, Stream
from pinna.recorder.track import Track
from pinna.recorder.verify import verify

SECONDS = 12.0


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("encoded")
    return {codec: encode(folder / codec, codec, SECONDS) for codec in CODECS}


def archive(data: bytes, folder: Path, *, start: float, piece: int, speed: float = 20.0) -> Account:
    """As if the stream had come in pieces of `piece` bytes; time goes `speed` times as fast as it sounds."""
    time = ManualTime(start)
    track = Track(plan(folder, Form("unknown", 48_000, 0, 0)), time, lambda *_: None)
    parser = Parser()
    for place in range(0, len(data), piece):
        for event in parser.feed(data[place : place + piece]):
            if isinstance(event, Unit):
                time.now += event.samples / 44_100 * speed
                track.take(Units((event,), time.now))
            else:
                track.take(event)
    track.close()
    return read_account(folder)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("piece", [997, 65_536])
def test_the_files_together_are_what_came(encoded: dict[str, bytes], tmp_path: Path, codec: str, piece: int):
    data = encoded[codec]
    account = archive(data, tmp_path / "mic", start=1.7e9, piece=piece)
    files = [segment.path.read_bytes() for segment in account.segments]
    assert len(files) >= 3
    head = b""
    if codec not in ("mp3", "aac"):
        (begin,) = [e for e in Parser().feed(data) if isinstance(e, Begins)]
        head = begin.head
        assert len(head) < 8192
    assert all(file.startswith(head) for file in files)
    assert head + b"".join(file.removeprefix(head) for file in files) == data
    assert verify(tmp_path / "mic", hashes=False, progress=lambda _: None).wrong == []


@pytest.mark.parametrize("codec", CODECS)
def test_every_file_plays_alone_and_as_long_as_the_account_says(
    encoded: dict[str, bytes], tmp_path: Path, codec: str
):
    account = archive(encoded[codec], tmp_path / "mic", start=1.7e9, piece=4096)
    total = 0.0
    for segment in account.segments:
        command = ["ffmpeg", "-v", "error", "-i", str(segment.path), "-f", "s16le", "-ac", "1", "-"]
        done = subprocess.run(command, capture_output=True, check=True)
        rate = int(segment.opened["rate"])
        total += len(done.stdout) / 2 / rate
        # A decoder may need a frame to warm up, and Vorbis and Opus overlap by one.
        assert abs(len(done.stdout) / 2 - segment.samples) <= 0.25 * rate
    assert abs(total - SECONDS) < 0.5


@pytest.mark.parametrize("codec", ["mp3", "aac"])
@pytest.mark.parametrize("skip", [1, 333, 1999])
def test_who_comes_in_the_middle_of_a_frame_begins_with_the_next(
    encoded: dict[str, bytes], tmp_path: Path, codec: str, skip: int
):
    data = encoded[codec][skip:]
    account = archive(data, tmp_path / "mic", start=1.7e9, piece=1000)
    kept = b"".join(segment.path.read_bytes() for segment in account.segments)
    assert data.endswith(kept)
    assert len(data) - len(kept) < 2000
    assert kept[0] == 0xFF


@pytest.mark.parametrize("codec", ["opus", "vorbis", "flac"])
def test_a_late_listener_has_header_pages_and_a_jump(encoded: dict[str, bytes], tmp_path: Path, codec: str):
    """What Icecast sends: the header pages, then pages from the middle."""
    data = encoded[codec]
    (begin,) = [e for e in Parser().feed(data) if isinstance(e, Begins)]
    middle = data.index(b"OggS", len(data) // 2)
    account = archive(begin.head + data[middle:], tmp_path / "mic", start=1.7e9, piece=1000)
    files = [segment.path.read_bytes() for segment in account.segments]
    assert b"".join(file.removeprefix(begin.head) for file in files) == data[middle:]
    assert account.gaps == []
    assert account.segments[0].opened["granule"] > 0


def test_an_ogg_chain_makes_a_file_of_each_link(encoded: dict[str, bytes], tmp_path: Path):
    chain = encoded["opus"] + encoded["flac"]
    account = archive(chain, tmp_path / "mic", start=1.7e9, piece=1000, speed=1.0)
    assert b"".join(segment.path.read_bytes() for segment in account.segments) == chain
    assert [segment.opened["format"] for segment in account.segments] == ["ogg-opus", "ogg-flac"]


def test_pages_that_never_came_are_a_gap_of_their_length(encoded: dict[str, bytes], tmp_path: Path):
    data = encoded["opus"]
    pages = [m.start() for m in re.finditer(b"OggS", data)]
    torn = data[: pages[20]] + data[pages[25] :]
    account = archive(torn, tmp_path / "mic", start=1.7e9, piece=1000, speed=1.0)
    (gap,) = account.gaps
    assert gap["reason"] == "disconnect"
    assert gap["samples"] == 6 * 9600  # of the first page after them only the end is known
    assert verify(tmp_path / "mic", hashes=False, progress=lambda _: None).wrong == []


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_that_was_cut_off_keeps_its_whole_frames(
    encoded: dict[str, bytes], tmp_path: Path, codec: str
):
    from pinna.recorder import formats  # noqa: PLC0415

    account = archive(encoded[codec], tmp_path / "mic", start=1.7e9, piece=4096, speed=1.0)
    segment = account.segments[0]
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole[: len(whole) * 2 // 3])
    found = formats.mend(segment.path, Form.of(segment.opened))
    assert whole.startswith(segment.path.read_bytes())
    assert 0.5 * segment.samples < found.samples < 0.8 * segment.samples


def test_titles_are_taken_out_of_the_sound():
    sound = bytes(range(256)) * 4
    text = b"StreamTitle='It''s a \xc3\xa4 song';StreamUrl='';"
    block = bytes([(len(text) + 15) // 16]) + text.ljust((len(text) + 15) // 16 * 16, b"\0")
    wire = sound[:500] + block + sound[500:1000] + b"\0" + sound[1000:]
    for piece in (1, 7, 10_000):
        titles = Titles(500)
        parts = [part for at in range(0, len(wire), piece) for part in titles.feed(wire[at : at + piece])]
        assert b"".join(got for got, _ in parts) == sound
        assert [title for _, title in parts if title is not None] == ["It''s a ä song"]


# The wire


class Listener:
    """A stream's events, as they come."""

    def __init__(self, url: str) -> None:
        self.events: list[Event] = []
        self.stream = Stream("radio", url, self.events.append)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_down(self) -> str:
        found = eventually(lambda: self.of(Down), what="it is down")[0]
        assert isinstance(found, Down)
        return found.detail

    def sound(self) -> bytes:
        return b"".join(unit.data for e in self.events if isinstance(e, Units) for unit in e.units)


@contextmanager
def listening(url: str) -> Iterator[Listener]:
    listener = Listener(url)
    listener.stream.start()
    try:
        yield listener
    finally:
        listener.stream.stop()
        listener.stream.join(10)
        assert not listener.stream.is_alive()


def reply(connection: socket.socket, head: str, body: bytes = b"") -> None:
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("HTTP/1.0 404 File Not Found\n", "answers 404"),
        ("HTTP/1.0 401 Authentication Required\n", "answers 401"),
        ("HTTP/1.0 200 OK\nContent-Type: text/html\n\n<html>", "is a web page"),
        ("HTTP/1.0 200 OK\nContent-Type: audio/x-mpegurl\n\n#EXTM3U\n", "without an entry"),
        ("HTTP/1.0 200 OK\nContent-Type: application/vnd.apple.mpegurl\n\n#EXT-X-VERSION:3\n", "HLS"),
        ("HTTP/1.0 302 Found\nLocation: /again\n", "without end"),
        ("HTTP/1.0 302 Found\nLocation: file:///etc/passwd\n", "is no http address"),
        ("no http at all\n", "does not answer"),
        ("", "does not answer"),
        ("HTTP/1.0 200 OK\nContent-Type: audio/mpeg\n\n" + "x" * 300_000, "of no known format"),
        ("HTTP/1.0 200 OK\nContent-Type: audio/ogg\n\n", "the server ended the stream"),
    ],
)
def test_what_is_no_stream_is_named(answer: str, cause: str):
    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        connection.sendall(answer.replace("\n", "\r\n").encode())

    with server(respond) as url, listening(f"{url}/radio") as listener:
        assert cause in listener.wait_down()
        assert listener.sound() == b""


def test_nobody_listens_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with listening(f"http://127.0.0.1:{taken.getsockname()[1]}/") as listener:
            assert "Connection refused" in listener.wait_down()


def test_through_a_playlist_a_redirect_and_a_password(encoded: dict[str, bytes]):
    data, heads = encoded["mp3"], []

    def respond(path: str, head: bytes, connection: socket.socket) -> None:
        heads.append(head)
        if path == "/list.pls":
            reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/x-scpls", b"[playlist]\nFile1=/moved\n")
        elif path == "/moved":
            reply(connection, "HTTP/1.0 302 Found\nLocation: /radio")
        else:
            reply(connection, "ICY 200 OK\nicy-name: A\nContent-Type: audio/mpeg", data)

    with server(respond) as url:
        secret = url.replace("http://", "http://me:se%40cret@")
        with listening(f"{secret}/list.pls") as listener:
            listener.wait_down()
            assert listener.sound() == data
            assert not any("se%40cret" in str(event) for event in listener.of(Down))
    assert all(b"Basic " + base64.b64encode(b"me:se@cret") in head for head in heads)
    assert b"icy-metadata: 1" in heads[-1].lower()


def leading_to(url: str) -> Answer:
    """Answers that the stream is at another address."""
    return lambda _path, _head, connection: reply(connection, f"HTTP/1.0 302 Found\nLocation: {url}/")


def refusing(heads: list[bytes]) -> Answer:
    """Has nothing, and keeps what it was asked."""

    def refuse(_path: str, head: bytes, connection: socket.socket) -> None:
        heads.append(head)
        reply(connection, "HTTP/1.0 404 Not Found")

    return refuse


def test_the_password_goes_to_no_other_host():
    heads: list[bytes] = []
    with (
        server(refusing(heads)) as elsewhere,
        server(leading_to(elsewhere.replace("127.0.0.1", "localhost"))) as url,
        listening(url.replace("http://", "http://me:secret@")) as listener,
    ):
        assert "answers 404" in listener.wait_down()
    assert not any(b"Authorization" in head for head in heads)


def test_titles_and_sound_come_apart(encoded: dict[str, bytes]):
    data = encoded["mp3"]
    block = b"\x02" + b"StreamTitle='One';".ljust(32, b"\0")
    wire = block.join(data[at : at + 8000] for at in range(0, len(data), 8000))

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg\nicy-metaint: 8000", wire)

    with server(respond) as url, listening(f"{url}/radio") as listener:
        listener.wait_down()
        assert listener.sound() == data
        assert listener.of(Title)[0] == Title("One")


def test_a_stream_that_comes_back_as_another_codec(encoded: dict[str, bytes]):
    turn = iter(["mp3", *["opus"] * 99])

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded[next(turn)])

    with server(respond) as url, listening(f"{url}/radio") as listener:
        eventually(lambda: len(listener.of(Begins)) >= 2)
        forms = [event.form.format for event in listener.events if isinstance(event, Begins)]
        assert forms[:2] == ["mp3", "ogg-opus"]


def test_what_nobody_has_thought_of_ends_one_connection_and_no_more(
    encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    feed, failures = Parser.feed, iter([KeyError("nobody has thought of this")])

    def failing(parser: Parser, data: bytes) -> Iterator[Event | Unit]:
        for failure in failures:
            raise failure
        return feed(parser, data)

    monkeypatch.setattr(Parser, "feed", failing)

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"])

    with server(respond) as url, listening(f"{url}/radio") as listener:
        assert "nobody has thought of this" in listener.wait_down()
        eventually(lambda: listener.of(Units), what="it is tried again")


def test_told_to_stop_it_does_not_wait_for_a_silent_server(encoded: dict[str, bytes]):
    release = threading.Event()

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"][:9000])
        release.wait(60)

    try:
        with server(respond) as url:
            listener = Listener(f"{url}/radio")
            listener.stream.start()
            eventually(lambda: listener.of(Begins))
            listener.stream.stop()
            listener.stream.join(5)
            assert not listener.stream.is_alive()
            release.set()
    finally:
        release.set()


def test_what_came_as_one_burst_is_kept_when_it_is_stopped_at_once(
    encoded: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream, "BURST_SECONDS", 1000.0)  # it is stopped before, however slow the machine
    released = threading.Event()

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"])
        released.wait(60)

    try:
        with server(respond) as url:
            source = Source("radio", type="stream", url=f"{url}/radio")
            settings = Settings(tmp_path / "a", tmp_path / "s", reserve_mb=1, sources=(source,))
            with service.Recorder(settings) as running:
                eventually(lambda: running.recordings[0].status()["format"] == "mp3", what="it has begun")
                assert running.recordings[0].status()["file"] is None
            released.set()
        (segment,) = read_account(tmp_path / "a" / "radio").segments
        assert segment.samples > 0
        assert encoded["mp3"].startswith(segment.path.read_bytes())
    finally:
        released.set()


def test_what_came_as_one_burst_is_kept_when_nothing_follows_it(
    encoded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream, "BURST_SECONDS", 1000.0)
    monkeypatch.setattr(icy, "TIMEOUT_SECONDS", 1.0)
    released = threading.Event()

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"])
        released.wait(60)

    try:
        with server(respond) as url, listening(f"{url}/radio") as listener:
            assert "nothing came" in listener.wait_down()
            assert listener.sound() == encoded["mp3"]
            released.set()
    finally:
        released.set()


def test_a_server_that_never_comes_to_the_point_keeps_no_other_file_from_its_end(
    encoded: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It sends its header byte by byte, so that no time-out ends the wait for it."""
    released = threading.Event()

    def respond(path: str, _head: bytes, connection: socket.socket) -> None:
        if path == "/slow":
            connection.sendall(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            while not released.wait(0.1):
                connection.sendall(b"x")
            return
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"])
        while not released.wait(0.2):
            connection.sendall(encoded["mp3"])

    monkeypatch.setattr(service, "STOP_SECONDS", 4.0)
    monkeypatch.setattr(service, "FINISH_SECONDS", 3.0)
    try:
        with server(respond) as url, capture_logs() as said:
            streams = [Source(name, type="stream", url=f"{url}/{name}") for name in ("slow", "radio")]
            settings = Settings(tmp_path / "a", tmp_path / "s", reserve_mb=1, sources=tuple(streams))
            with service.Recorder(settings) as running:
                eventually(lambda: running.recordings[1].status()["file_samples"], 60, what="it records")
            assert "recorder.stopped_late" not in [line["event"] for line in said]
            (segment,) = read_account(tmp_path / "a" / "radio").segments
            assert segment.closed is not None
            released.set()
    finally:
        released.set()


@pytest.mark.parametrize("codec", ["mp3", "aac", None])
def test_a_finished_file_is_drawn_by_another_process_and_hashed_in_any_case(
    encoded: dict[str, bytes], tmp_path: Path, codec: str | None
):
    path, manifest = tmp_path / "radio.aac", Manifest(tmp_path / NAME)
    path.write_bytes(encoded[codec] if codec else b"no sound at all")
    hasher = Hasher()
    hasher.start()
    hasher.add(path, manifest)
    eventually(lambda: manifest.path.exists() and manifest.read()[0], 60, what="it is hashed")
    hasher.stop(monotonic() + 10)
    drawn = peaks.read(path)
    assert (len(drawn.entries) // 10 if drawn else None) == (SECONDS if codec else None)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, with its key, signed by itself."""
    return self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")


def test_over_tls_by_an_authority_that_is_trusted(
    encoded: dict[str, bytes], certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    heads = []

    def respond(_path: str, head: bytes, connection: socket.socket) -> None:
        heads.append(head)
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"])

    with server(respond, secured(certificate)) as url:
        secret = url.replace("https://", "https://me:secret@")
        with listening(f"{secret}/radio") as listener:
            assert listener.wait_down() == "the server ended the stream"
            assert listener.sound() == encoded["mp3"]
    assert b"Basic " + base64.b64encode(b"me:secret") in heads[0]


def test_an_authority_that_nobody_trusts_is_named_and_told_nothing(certificate: Path):
    heads = []

    def respond(_path: str, head: bytes, _connection: socket.socket) -> None:
        heads.append(head)

    with server(respond, secured(certificate)) as url:
        secret = url.replace("https://", "https://me:secret@")
        with listening(f"{secret}/radio") as listener:
            assert "is not who it says it is: self-signed certificate" in listener.wait_down()
    assert heads == []


def test_a_certificate_of_another_host_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with server(lambda *_: None, secured(certificate)) as url:
        elsewhere = url.replace("127.0.0.1", "localhost")
        with listening(f"{elsewhere}/radio") as listener:
            assert "is not who it says it is" in listener.wait_down()


def test_the_password_does_not_leave_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    heads: list[bytes] = []
    with (
        server(refusing(heads)) as plain,
        server(leading_to(plain), secured(certificate)) as url,
        listening(url.replace("https://", "https://me:secret@")) as listener,
    ):
        assert "answers 404" in listener.wait_down()
    assert heads
    assert not any(b"Authorization" in head for head in heads)


def test_over_tls_too_it_ends_when_it_is_told_to(
    encoded: dict[str, bytes], certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    release = threading.Event()

    def respond(_path: str, _head: bytes, connection: socket.socket) -> None:
        reply(connection, "HTTP/1.0 200 OK\nContent-Type: audio/mpeg", encoded["mp3"][:9000])
        release.wait(60)

    try:
        with server(respond, secured(certificate)) as url:
            listener = Listener(f"{url}/radio")
            listener.stream.start()
            eventually(lambda: listener.of(Begins))
            listener.stream.stop()
            listener.stream.join(5)
            assert not listener.stream.is_alive()
            release.set()
    finally:
        release.set()


# The whole


def sources(server: Icecast, *mounts: str) -> str:
    return "".join(f'[sources.{m}]\ntype = "stream"\nurl = "{server.url(m)}"\n' for m in mounts)


def test_a_server_that_dies_and_comes_back(fragile_sound: VirtualSound, tmp_path: Path):
    with icecast() as radio:
        with recorder(fragile_sound, tmp_path, sources(radio, "mp3", "opus", "absent")) as running:
            with radio.source("mp3", "mp3"), radio.source("opus", "opus", title="Aria"):
                running.wait_recording("mp3", 2, 44_100)
                running.wait_recording("opus", 2)
                assert "answers 404" in running.source("absent")["trouble"]
                radio.stop()
                eventually(lambda: running.source("mp3").get("state") == "disconnect", what="mp3 is down")
                eventually(lambda: running.source("opus").get("state") == "disconnect", what="opus is down")
            radio.start()
            with radio.source("mp3", "mp3"), radio.source("opus", "opus"):
                running.wait_recording("mp3", 2, 44_100)
                running.wait_recording("opus", 2)
                assert running.program.stop() == 0
        code, reports = running.verify()
        assert code == 0
        for report in reports:
            assert [gap["reason"] for gap in report["gaps"]] == ["disconnect"]
            assert report["files"] >= 2
