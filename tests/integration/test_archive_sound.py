"""Sound from the archive: clips, waveforms, loud sections, and files that grow while they are played."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.support.archives import Recording, run, serving, where
from tests.support.radio import encode
from tests.support.ramps import PERIOD

from pinna.archive import playing
from pinna.archive import server as archive_server
from pinna.archive.index import MOST_READ_HERE
from pinna.archive.server import Archive
from pinna.recorder import peaks
from pinna.recorder.events import Begins, Chunk, Lost, Unit, Units
from pinna.recorder.formats import Form
from pinna.recorder.stream import Parser

RATE = 8000
FORMS = [Form("wav", RATE, 1, 16), Form("flac", RATE, 1, 16), Form("wav", RATE, 2, 24)]


async def get(http: aiohttp.ClientSession, path: str, status: int = 200) -> dict[str, Any]:
    async with http.get(path) as answer:
        assert answer.status == status, await answer.text()
        body: dict[str, Any] = await answer.json() if status == 200 else {"text": await answer.text()}
        return body


async def sound(http: aiohttp.ClientSession, path: str) -> tuple[NDArray[np.int16], int]:
    async with http.get(path) as answer:
        assert answer.status == 200, await answer.text()
        data, rate = soundfile.read(io.BytesIO(await answer.read()), dtype="int16", always_2d=True)
        return data, rate


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  (what is asked is another's, over HTTP)
            await asyncio.sleep(0.02)


def counts(first: int, count: int) -> NDArray[np.int64]:
    return np.arange(first, first + count) % PERIOD


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_is_the_samples_asked_for_also_of_a_file_that_grows(tmp_path: Path, form: Form):
    recording = Recording(tmp_path, form)
    recording.track.sync()

    async def scene() -> None:
        async with serving(recording) as (_, http):
            for path, first in ((recording.paths[0], 0), (recording.paths[-1], 100 * RATE)):
                data, rate = await sound(http, f"/api/clip?file={where(path)}&start=1.5&end=4.25")
                assert (rate, data.shape) == (RATE, (22_000, form.channels))
                assert (data[:, 0] == counts(first + 12_000, 22_000)).all()
            async with http.get(f"/api/clip?file={where(path)}&start=2&end=3") as answer:
                assert answer.headers["Content-Type"] == "audio/wav"
                named = f"{path.stem}_2.0s-3.0s.wav"
                assert answer.headers["Content-Disposition"] == f'attachment; filename="{named}"'
            async with http.head(f"/api/clip?file={where(path)}&start=2&end=3") as answer:
                assert (answer.status, int(answer.headers["Content-Length"]) > 16_000) == (200, True)

    run(scene)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("start=5&end=5", "empty"),
        ("start=5&end=1", "empty"),
        ("start=9999", "empty"),
        ("start=-1", "no number"),
        ("start=nan", "no number"),
    ],
)
def test_a_clip_of_nothing_is_refused(tmp_path: Path, query: str, says: str):
    recording = Recording(tmp_path)

    async def scene() -> None:
        async with serving(recording) as (_, http):
            path = f"/api/clip?file={where(recording.paths[0])}&{query}"
            assert says in (await get(http, path, 400))["text"]

    run(scene)


def test_a_clip_has_an_end(tmp_path: Path):
    recording = Recording(tmp_path, Form("wav", 1000, 1, 16))
    recording.track.close()
    path = recording.paths[0]
    with path.open("r+b") as file:  # 15 minutes
        file.truncate(80 + 2 * 900_000)
    from pinna.recorder.formats import mend  # noqa: PLC0415

    mend(path, recording.form)

    async def scene() -> None:
        async with serving(recording) as (_, http):
            refused = await get(http, f"/api/clip?file={where(path)}&start=0&end=601", 400)
            assert "600 seconds" in refused["text"]
            data, _ = await sound(http, f"/api/clip?file={where(path)}&start=1&end=601")
            assert len(data) == 600_000

    run(scene)


@pytest.mark.parametrize(
    "file",
    ["", "mic", "mic/2026-11-21/../../etc/passwd", "../x/y", "mic/2026-11-21/manifest.jsonl", "a/b/c%00"],
)
@pytest.mark.parametrize("route", ["clip", "peaks", "analyze"])
def test_what_is_no_recording_is_refused(tmp_path: Path, route: str, file: str):
    recording = Recording(tmp_path)

    async def scene() -> None:
        async with serving(recording) as (_, http), http.get(f"/api/{route}?file={file}") as answer:
            assert answer.status in (400, 404)

    run(scene)


@pytest.mark.parametrize("form", FORMS)
def test_a_growing_file_is_served_as_if_it_were_finished(tmp_path: Path, form: Form):
    """Whatever was asked for first, the pieces of it fit together, and any player reads its length."""
    recording = Recording(tmp_path, form)
    path = recording.paths[-1]

    async def scene() -> None:
        async with serving(recording) as (_, http):
            (file, *_) = (await get(http, "/api/files"))["files"]
            assert file["recording"]
            url = f"/stream/{where(path)}?bytes={file['bytes']}&samples={file['samples']}"
            async with http.get(url) as answer:
                whole, tag = await answer.read(), answer.headers["ETag"]
            recording.play(7)
            pieces = b""
            while len(pieces) < len(whole):
                span = f"bytes={len(pieces)}-{len(pieces) + 99_999}"
                async with http.get(url, headers={"Range": span, "If-Range": tag}) as answer:
                    assert (answer.status, answer.headers["ETag"]) == (206, tag)
                    assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")
                    pieces += await answer.read()
            assert pieces == whole
            info = soundfile.info(io.BytesIO(whole))
            assert info.frames == file["samples"] == round(file["duration"] * RATE)
            data, _ = soundfile.read(io.BytesIO(whole), dtype="int16", always_2d=True)
            width = 8 if form.bits == 24 else 0  # of 24 bits these are the upper 16
            assert width or (data[:, 0] == counts(100 * RATE, len(data))).all()

            async with http.get(url, headers={"Range": f"bytes={len(whole)}-"}) as answer:
                assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
            async with http.get(url, headers={"If-None-Match": tag}) as answer:
                assert answer.status == 304
            async with http.head(url) as answer:
                assert int(answer.headers["Content-Length"]) == len(whole)
            for wrong in ("bytes=-1", f"bytes={10**12}", "bytes=x", "bytes=5&samples=-1"):
                async with http.get(f"/stream/{where(path)}?{wrong}") as answer:
                    assert answer.status == 400

            recording.track.close()
            async with http.get(url) as answer:  # also after its end
                assert await answer.read() == whole

    run(scene)


def test_what_a_crash_left_open_is_not_called_recording(tmp_path: Path):
    recording = Recording(tmp_path)
    path = recording.paths[-1]
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))

    async def scene() -> None:
        async with serving(recording, alive=False) as (_, http):
            file = (await get(http, "/api/files"))["files"][0]
            assert (file["recording"], file["unfinished"], file["duration"]) == (False, True, 30.0)
            assert not (await get(http, "/api/sources"))["sources"][0]["recording"]
            status = tmp_path / "status.json"
            status.write_text('{"pid": 1}')
            os.utime(status, (an_hour_ago, an_hour_ago))
            assert await get(http, "/api/status") == {"running": False}

    run(scene)


def test_the_waveform_its_gaps_and_the_day(tmp_path: Path):
    recording = Recording(tmp_path)
    recording.track.take(Lost("xrun", 4000, "overrun"))
    recording.play(5)
    recording.track.sync()

    async def scene() -> None:
        async with serving(recording) as (_, http):
            path = recording.paths[-1]
            found = await get(http, f"/api/peaks?file={where(path)}&points=35")
            assert found["drawn"]
            assert found["seconds_each"] == pytest.approx(1.0)
            assert len(found["low"]) == len(found["high"]) == len(found["rms"]) == 35
            assert max(found["high"]) > 30_000  # the ramp goes up …
            assert min(found["high"]) < 10_000  # … and begins anew
            (gap,) = found["gaps"]
            assert (gap["at"], gap["seconds"], gap["reason"]) == (30.0, 0.5, "xrun")

            day = await get(http, f"/api/overview?source=mic&day={path.parent.name}")
            assert len(day["rms"]) == 1440
            minute = int((recording.time.wall() - day["start"]) // 60)
            assert [k for k, level in enumerate(day["rms"]) if level is not None] == [
                minute - 2, minute - 1, minute
            ]  # fmt: skip
            assert [gap["reason"] for gap in day["gaps"]] == ["xrun", "unplug"]
            assert "both" in (await get(http, "/api/overview?source=mic", 400))["text"]

    run(scene)


def test_loud_sections(tmp_path: Path):
    recording = Recording(tmp_path)
    rng = np.random.default_rng(1)
    recording.track.close()
    recording = Recording(tmp_path / "other")
    recording.play(30)  # to the full minute
    for second in range(40):
        recording.time.now += 1
        noise = rng.normal(0, 3000 if second in (20, 21, 22) else 50, RATE)
        recording.track.take(Chunk(noise.astype("<i2").tobytes(), recording.time.now))
    recording.track.sync()

    async def scene() -> None:
        async with serving(recording) as (_, http):
            found = await get(http, f"/api/analyze?file={where(recording.paths[-1])}")
            (section,) = found["sections"]
            assert (section["start"], section["end"]) == (20.0, 23.0)
            assert section["level_db"] == pytest.approx(20 * np.log10(3000 / 32_768), abs=1)
            assert found["noise_floor_db"] == pytest.approx(20 * np.log10(50 / 32_768), abs=1)
            deaf = await get(http, f"/api/analyze?file={where(recording.paths[-1])}&margin=60")
            assert deaf["sections"] == []

    run(scene)


@pytest.mark.parametrize("codec", ["mp3", "aac", "opus", "vorbis", "flac"])
def test_of_a_stream_they_come_when_its_file_is_finished(tmp_path: Path, codec: str):
    recording = Recording(tmp_path)
    recording.track.close()
    parser = Parser()
    for event in parser.feed(encode(tmp_path / "tone", codec, 20)):
        recording.time.now += 0.02
        if isinstance(event, Unit):
            recording.track.take(Units((event,), recording.time.now))
        elif isinstance(event, Begins):
            recording.track.take(event)
    path = max(
        recording.folder.glob("mic/*/*"), key=lambda path: path.stat().st_mtime_ns * (path.suffix != ".jsonl")
    )
    samples = recording.track.status["file_samples"]
    (tmp_path / "status.json").write_text(
        f'{{"sources": {{"mic": {{"file": "{path.parent.name}/{path.name}", "file_samples": {samples}}}}}}}'
    )

    async def scene() -> None:
        async with serving(recording) as (_, http):
            found = (await get(http, "/api/files"))["files"][0]
            assert found["path"] == where(path)
            assert found["recording"]
            assert found["duration"] == pytest.approx(20, abs=1)
            assert not (await get(http, f"/api/peaks?file={where(path)}"))["drawn"]
            await get(http, f"/api/analyze?file={where(path)}", 404)
            recording.track.close()
            assert peaks.complete(path)
            drawn = await get(http, f"/api/peaks?file={where(path)}&points=20")
            assert drawn["drawn"]
            assert len(drawn["rms"]) in range(18, 22)
            assert 1500 < drawn["rms"][10] < 4000  # ffmpeg's sine has an eighth of full scale
            data, _ = await sound(http, f"/api/clip?file={where(path)}&start=5&end=6")
            spectrum = np.abs(np.fft.rfft(data[:, 0]))
            assert abs(spectrum.argmax() - 440) < 2

    run(scene)


def test_a_large_archive_answers_while_it_is_still_being_read(tmp_path: Path):
    """One manifest keeps its reader waiting until somebody writes; newer days are there long before."""
    recording = Recording(tmp_path)
    old = tmp_path / "mic" / "2020-01-01"
    old.mkdir()
    os.mkfifo(old / "manifest.jsonl")

    async def scene() -> None:
        async with (
            Archive(tmp_path, tmp_path / "s", "127.0.0.1", 0, "") as archive,
            aiohttp.ClientSession(archive.address) as http,
        ):

            async def known(count: int) -> bool:
                return len((await get(http, "/api/files"))["files"]) == count

            async def read() -> bool:
                return not (await get(http, "/api/sources"))["reading"]

            try:
                await until_true(lambda: known(4))
                assert (await get(http, "/api/sources"))["reading"]
                assert "still being read" in (
                    await get(http, "/stream/mic/2020-01-01/mic.wav", 503)
                )["text"]  # fmt: skip
                assert (await get(http, f"/api/peaks?file={where(recording.paths[0])}"))["drawn"]
            finally:
                await asyncio.to_thread((old / "manifest.jsonl").write_bytes, b"")
            await until_true(read)
            await get(http, "/stream/mic/2020-01-01/mic.wav", 404)

    run(scene)


def test_a_server_that_is_ended_waits_for_no_manifest(tmp_path: Path):
    """Many old days are read by another process, here by one that would wait for ever."""
    Recording(tmp_path)
    for number in range(MOST_READ_HERE + 1):
        old = tmp_path / "mic" / f"2020-01-{number + 1:02}"
        old.mkdir()
        os.mkfifo(old / "manifest.jsonl")

    async def scene() -> None:
        async with (
            Archive(tmp_path, tmp_path / "s", "127.0.0.1", 0, "") as archive,
            aiohttp.ClientSession(archive.address) as http,
        ):

            async def newest_known() -> bool:
                return len((await get(http, "/api/files"))["files"]) == 4

            await until_true(newest_known)
            assert (await get(http, "/api/sources"))["reading"]

    run(scene)


def test_listeners_that_leave_in_the_middle_are_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    recording = Recording(tmp_path, Form("wav", 48_000, 2, 16))  # more than a socket holds

    async def scene() -> None:
        async with serving(recording) as (archive, http):
            port = int(archive.address.rpartition(":")[2])
            for path in (
                f"/stream/{where(recording.paths[-1])}",
                f"/api/clip?file={where(recording.paths[0])}",
            ):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await writer.drain()
                writer.transport.abort()
            await get(http, "/api/files")

    run(scene)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_those_who_do_not_take_what_they_asked_for_keep_nobody_else_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(playing, "MOST_LISTENERS", 5)
    recording = Recording(tmp_path, Form("wav", 48_000, 2, 16))  # more than a socket holds

    async def scene() -> None:
        async with serving(recording) as (archive, http):
            port = int(archive.address.rpartition(":")[2])
            url = f"/stream/{where(recording.paths[0])}"
            open_url = f"/stream/{where(recording.paths[-1])}"
            clip = f"/api/clip?file={where(recording.paths[0])}"
            stuck = [await asyncio.open_connection("127.0.0.1", port, limit=1024) for _ in range(5)]
            for (reader, writer), path in zip(stuck, (url, open_url, clip, url, open_url), strict=True):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert b"200 OK" in await reader.readline()
            assert "listening already" in (await get(http, url, 503))["text"]
            assert len((await get(http, "/api/files"))["files"]) == 4
            assert (await get(http, f"/api/peaks?file={where(recording.paths[0])}"))["drawn"]
            for _, writer in stuck:
                writer.transport.abort()

            async def has_room() -> bool:
                async with http.get(url, headers={"Range": "bytes=0-9"}) as answer:
                    return answer.status == 206

            await until_true(has_room)

    run(scene)


def test_who_takes_nothing_for_long_loses_the_seat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(playing, "MOST_LISTENERS", 3)
    monkeypatch.setattr(playing, "STALLED_SECONDS", 1.0)
    recording = Recording(tmp_path, Form("wav", 48_000, 2, 16))  # more than a socket holds

    async def scene() -> None:
        async with serving(recording) as (archive, http):
            port = int(archive.address.rpartition(":")[2])
            whole, growing = (f"/stream/{where(recording.paths[k])}" for k in (0, -1))
            stuck = [await asyncio.open_connection("127.0.0.1", port, limit=1024) for _ in range(3)]
            clip = f"/api/clip?file={where(recording.paths[0])}"
            for (reader, writer), path in zip(stuck, (whole, growing, clip), strict=True):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert b"200 OK" in await reader.readline()

            async def has_room() -> bool:
                async with http.get(whole, headers={"Range": "bytes=0-9"}) as answer:
                    return answer.status == 206

            await until_true(has_room)
            for _, writer in stuck:
                writer.transport.abort()

    run(scene)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("words", [b"", b"GET /api/files HTTP/1.1\r\nHost: local"])
def test_who_never_ends_a_request_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: bytes):
    monkeypatch.setattr(archive_server, "IDLE_SECONDS", 0.5)
    recording = Recording(tmp_path)

    async def scene() -> None:
        async with serving(recording) as (archive, http):
            port = int(archive.address.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(words)
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            writer.close()
            assert len((await get(http, "/api/files"))["files"]) == 4

    run(scene)
