"""Sources that are wrong, each in its way: named with cause and cure, while the others go on."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.radio import CODECS, encode, server
from tests.support.recorders import command, recorder
from tests.support.waiting import eventually

HEAD = "HTTP/1.0 200 OK\r\nContent-Type: {}\r\n\r\n"
ANSWERS = {
    "page": HEAD.format("text/html") + "<html>",
    "noise": HEAD.format("audio/mpeg") + "x" * 300_000,
    "absent": "HTTP/1.0 404 File Not Found\r\n\r\n",
    "video": HEAD.format("application/vnd.apple.mpegurl") + "#EXTM3U\n#EXT-X-VERSION:3\n",
}
WRONG = {
    "page": ("is a web page, not a stream", "Look on it for the address"),
    "noise": ("of no known format", "are understood"),
    "absent": ("answers 404", "Does the mount point exist"),
    "video": ("is an HLS playlist", "Give an Icecast or MP3 stream"),
    "nobody": ("Connection refused", "Is the address right"),
    "nowhere": ("does not answer", "Is the address right"),
}


@pytest.fixture
def radio(tmp_path: Path) -> Iterator[str]:
    """A stream that goes on, one that changes its codec at each connection, and those that are none."""
    encoded = {codec: encode(tmp_path / f"{codec}.encoded", codec, 5.0) for codec in ("mp3", "opus")}
    assert encoded.keys() <= CODECS.keys()
    changing = iter(["mp3", *["opus"] * 1000])
    released = threading.Event()

    def respond(path: str, _head: bytes, connection: socket.socket) -> None:
        name = path.strip("/")
        if name in ANSWERS:
            connection.sendall(ANSWERS[name].encode())
            return
        connection.sendall(HEAD.format("audio/mpeg").encode())
        connection.sendall(encoded[next(changing) if name == "changing" else "mp3"])
        while name == "good" and not released.wait(0.2):
            connection.sendall(encoded["mp3"])

    with server(respond) as url:
        try:
            yield url
        finally:
            released.set()


def test_each_is_named_with_cause_and_cure_and_the_others_go_on(radio: str, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # where nobody listens
        urls = {name: f"{radio}/{name}" for name in ("good", "changing", "blocked", *ANSWERS)}
        urls["nobody"] = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        urls["nowhere"] = "http://nowhere.invalid/"
        sources = "".join(f'[sources.{name}]\ntype = "stream"\nurl = "{url}"\n' for name, url in urls.items())
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "blocked").write_text("a file where the folder of a source would be")
        with recorder(dict(os.environ), tmp_path, sources) as running:
            for name, (cause, hint) in WRONG.items():

                def told(name: str = name) -> dict[str, str]:
                    lost = running.program.events("recorder.stream_lost")
                    return next((line for line in lost if line["source"] == name), {})

                line = eventually(told, 60, what=f"{name} is told\n{running.program.said()}")
                assert cause in line["cause"]
                assert hint in line["hint"]
                trouble = eventually(lambda name=name: running.source(name).get("trouble"), 60)
                assert cause in trouble
            (refused,) = running.program.events("recorder.source_refused")
            assert refused["source"] == "blocked"
            assert "archive/blocked cannot be written" in refused["cause"]
            assert "a folder that this user may write to" in refused["hint"]
            assert running.source("blocked")["state"] == "failed"
            eventually(lambda: len([*running.archive.glob("changing/*/*.opus")]), 60, what="the other codec")
            running.wait_recording("good", running.source("good")["file_samples"] / 44_100 + 2, 44_100)
            assert running.program.stop(seconds=30) == 0
    code, reports = running.verify()
    assert code == 0, reports
    assert {report["source"] for report in reports} == {"good", "changing"}
    assert [*running.archive.glob("changing/*/*.mp3")]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.ini", "no section\n", "config.ini is no INI file"),
        ("config.ini", "[a]\ntype = stream\n", "a stream needs its url"),
        (
            "config.ini",
            "[a]\ntype = stream\nurl = ftp://me:secret@host/\n",
            "give an http:// or https:// address",
        ),
        ("recorder.toml", '[sources.a]\ntype = "stream"\nurl = "radio.example/live"\n', "give an http://"),
    ],
)
def test_a_configuration_that_is_wrong_is_named_and_nothing_begins(
    tmp_path: Path, name: str, text: str, says: str
):
    (tmp_path / name).write_text(text)
    done = command("record", "--config", str(tmp_path / name))
    assert done.returncode == 3
    assert says in done.stderr
    assert str(tmp_path / name) in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
