"""The archive over HTTP and in a real browser: what there is, what is missing, and who may not look."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect
from tests.support.archives import Recording, run, serving, where
from tests.support.browser import open_page
from tests.support.ramps import ManualTime

from pinna.archive.index import MOST_READ_HERE, Index
from pinna.archive.server import Archive
from pinna.errors import ConfigError, PortInUseError, StorageError
from pinna.recorder.events import Lost


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def test_files_gaps_sources_storage_and_status(recording: Recording):
    (recording.folder / "status.json").write_text('{"pid": 1}')

    async def get(http: aiohttp.ClientSession, path: str) -> dict[str, Any]:
        async with http.get(path) as answer:
            assert answer.status == 200
            body: dict[str, Any] = await answer.json()
            return body

    async def scene() -> None:
        async with serving(recording) as (_, http):
            found = (await get(http, "/api/files"))["files"]
            assert [file["path"] for file in found] == [where(path) for path in reversed(recording.paths)]
            assert [file["recording"] for file in found] == [True, False, False, False]
            assert [file["duration"] for file in found] == [30.0, 10.0, 30.0, 60.0]
            (gap,) = (await get(http, "/api/gaps"))["gaps"]
            assert (gap["reason"], gap["samples"], gap["detail"]) == ("unplug", 160_000, "No such device")
            (source,) = (await get(http, "/api/sources"))["sources"]
            assert (source["name"], source["recording"], source["days"][0]["files"]) == ("mic", True, 4)
            room = await get(http, "/api/storage")
            assert 0 < room["free_bytes"] < room["total_bytes"]
            held = sum(path.stat().st_size for path in recording.paths)  # the open one too
            assert room["archive_bytes"] == room["sources"]["mic"] == source["bytes"] == held
            assert await get(http, "/api/status") == {"running": True, "pid": 1}
            assert (await get(http, "/api/files?source=other"))["files"] == []

            page = await get(http, "/api/files?limit=2")
            rest = await get(http, f"/api/files?limit=3&before={page['next']}")
            assert [file["path"] for file in page["files"] + rest["files"]] == [f["path"] for f in found]
            assert rest["next"] is None

    run(scene)


def test_ranges_and_heads(recording: Recording):
    path = recording.paths[0]
    data = path.read_bytes()

    async def scene() -> None:
        async with serving(recording) as (_, http):
            url = f"/stream/{where(path)}"
            async with http.get(url) as answer:
                assert (answer.status, await answer.read()) == (200, data)
                assert answer.headers["Content-Type"] == "audio/wav"
                assert answer.headers["Accept-Ranges"] == "bytes"
                etag = answer.headers["ETag"]
            for spec, part in (
                ("bytes=0-99", data[:100]),
                ("bytes=100-", data[100:]),
                ("bytes=-50", data[-50:]),
                (f"bytes=5-{10**30}", data[5:]),
            ):
                async with http.get(url, headers={"Range": spec}) as answer:
                    assert (answer.status, await answer.read()) == (206, part)
                    assert answer.headers["Content-Range"].endswith(f"/{len(data)}")
            async with http.get(url, headers={"Range": f"bytes={len(data)}-"}) as answer:
                assert answer.status == 416
                assert answer.headers["Content-Range"] == f"bytes */{len(data)}"
            async with http.head(url) as answer:
                assert (answer.status, int(answer.headers["Content-Length"])) == (200, len(data))
            async with http.get(url, headers={"If-None-Match": etag}) as answer:
                assert answer.status == 304
            async with http.get(f"/download/{where(path)}") as answer:
                assert answer.headers["Content-Disposition"] == f'attachment; filename="{path.name}"'
                assert hashlib.sha256(await answer.read()).digest() == hashlib.sha256(data).digest()

    run(scene)


def test_a_file_that_grows_while_it_is_read_keeps_the_connection_in_step(recording: Recording):
    path = recording.paths[-1]

    async def scene() -> None:
        async with serving(recording) as (archive, _):
            port = int(archive.address.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(5):
                writer.write(f"GET /stream/{where(path)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                assert head.startswith("HTTP/1.1 200 OK\r\n"), head
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                recording.play(1)  # in the middle of the answer
                assert len(await reader.readexactly(length)) == length
            writer.close()
            await writer.wait_closed()

    run(scene)


def test_a_finished_file_is_sent_once_and_the_next_answer_follows_it(
    recording: Recording, caplog: pytest.LogCaptureFixture
):
    path = recording.paths[0]
    data = path.read_bytes()

    async def scene() -> None:
        async with serving(recording) as (archive, _):
            port = int(archive.address.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for wanted, part in (("", data), ("Range: bytes=100-299\r\n", data[100:300]), ("", data)):
                request = f"GET /stream/{where(path)} HTTP/1.1\r\nHost: localhost\r\n{wanted}\r\n"
                writer.write(request.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                assert head.startswith(f"HTTP/1.1 {'206' if wanted else '200'} "), head
                assert await reader.readexactly(len(part)) == part
            writer.close()
            await writer.wait_closed()

    run(scene)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    "path",
    [
        "/stream/../../etc/passwd",
        "/stream/mic/2026-11-21/..%2f..%2fsecret",
        "/stream/%2e%2e/%2e%2e/secret",
        "/stream/mic/2026-11-21/manifest.jsonl",
        "/stream/mic/2026-11-21/none.wav",
        "/download/mic/2026-11-21/%00",
        "/stream/mic/2026-11-21/a%0d%0aSet-Cookie:x",
        "/.recorder.lock",
    ],
)
def test_nothing_but_recordings_is_served(recording: Recording, path: str):
    (recording.folder / "secret").write_text("secret")

    async def scene() -> None:
        async with serving(recording) as (archive, _):
            port = int(archive.address.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
            )  # a client may tidy it up
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert answer.split()[1] in (b"404", b"400")
            assert b"Set-Cookie" not in answer.partition(b"\r\n\r\n")[0]

    run(scene)


def test_a_symbolic_link_is_not_followed(recording: Recording):
    path = recording.paths[0]
    secret = recording.folder / "secret"
    secret.write_text("secret")
    path.unlink()
    path.symlink_to(secret)

    async def scene() -> None:
        async with serving(recording) as (_, http), http.get(f"/stream/{where(path)}") as answer:
            assert answer.status == 404

    run(scene)


@pytest.mark.parametrize("query", ["limit=0", "limit=1e9", "limit=x", "before=nan"])
def test_nonsense_is_refused(recording: Recording, query: str):
    async def scene() -> None:
        async with serving(recording) as (_, http), http.get(f"/api/files?{query}") as answer:
            assert answer.status == 400

    run(scene)


def test_with_a_token_nobody_else_sees_anything(recording: Recording):
    basic = base64.b64encode(b"anyone:s3cret").decode()
    wrong = base64.b64encode(b"anyone:other").decode()

    async def scene() -> None:
        async with serving(recording, token="s3cret") as (_, http):
            for path in ("/", "/api/files", f"/stream/{where(recording.paths[0])}"):
                for header, status in (
                    (None, 401),
                    (f"Basic {wrong}", 401),
                    ("Basic ???", 401),
                    ("Bearer other", 401),
                    ("Digest s3cret", 401),
                    (f"Basic {basic}", 200),
                    ("Bearer s3cret", 200),
                ):
                    headers = {"Authorization": header} if header else {}
                    async with http.get(path, headers=headers) as answer:
                        assert answer.status == status, (path, header)

    run(scene)


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_without_one_other_sites_pages_see_nothing(recording: Recording, headers: dict[str, str]):
    async def scene() -> None:
        async with serving(recording) as (_, http), http.get("/api/files", headers=headers) as answer:
            assert answer.status == 403

    run(scene)


def test_it_does_not_open_to_the_network_without_a_token(tmp_path: Path):
    with pytest.raises(ConfigError, match="open to everyone"):
        Archive(tmp_path, tmp_path / "s", "0.0.0.0", 0, "")
    with pytest.raises(StorageError, match="there is no archive"):
        Archive(tmp_path / "none", tmp_path / "s", "127.0.0.1", 0, "")


def test_a_port_that_is_taken_is_named(recording: Recording):
    async def scene() -> None:
        async with serving(recording) as (archive, _):
            port = int(archive.address.rpartition(":")[2])
            with pytest.raises(PortInUseError, match="cannot be listened on"):
                async with Archive(recording.folder, recording.folder / "s", "127.0.0.1", port, ""):
                    pass

    run(scene)


def test_the_index_follows_the_disk(recording: Recording):
    now = ManualTime(0.0)
    index = Index(recording.folder, now.mono)
    index.refresh()
    assert len(index.files("", "", None, 10)) == 4
    recording.play(60)
    assert len(index.files("", "", None, 10)) == 4
    now.now += 3
    index.refresh()
    assert len(index.files("", "", None, 10)) == 5
    day = recording.paths[0].parent
    for path in day.iterdir():
        path.unlink()
    now.now += 61
    index.refresh()
    assert index.files("", "", None, 10) == []
    assert index.sources() == []


def test_of_the_newest_day_what_changes_is_followed(recording: Recording):
    """Files that end, grow into a gap, or are deleted; nothing else of the day is written again."""
    now = ManualTime(0.0)
    index = Index(recording.folder, now.mono)
    index.refresh()
    recording.track.take(Lost("xrun", 80, "overrun!!!"))
    recording.play(60)
    doomed = recording.paths[0]
    with (doomed.parent / "manifest.jsonl").open("a") as manifest:
        manifest.write(json.dumps({"kind": "deleted", "file": doomed.name, "reason": "age"}) + "\n")
    now.now += 3
    index.refresh()
    anew = Index(recording.folder)
    anew.refresh()
    assert index.files("", "", None, 10) == anew.files("", "", None, 10)
    assert len(index.files("", "", None, 10)) == 4
    assert index.gaps("", "", 10) == anew.gaps("", "", 10)
    assert index.sources() == anew.sources()


def test_many_old_days_are_read_by_another_process_and_are_the_same(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
):
    manifest = (recording.paths[0].parent / "manifest.jsonl").read_text()
    for number in range(MOST_READ_HERE + 3):
        old = recording.folder / "mic" / f"2020-01-{number + 1:02}" / "manifest.jsonl"
        old.parent.mkdir()
        old.write_text(manifest)
    now = ManualTime(0.0)
    index = Index(recording.folder, now.mono)
    index.refresh()
    monkeypatch.setattr("pinna.archive.index.MOST_READ_HERE", 99)
    here = Index(recording.folder)
    here.refresh()
    assert index.sources() == here.sources()
    assert len(index.sources()[0]["days"]) == MOST_READ_HERE + 4
    assert index.files("", "", None, 1000) == here.files("", "", None, 1000)
    assert index.gaps("", "", 1000) == here.gaps("", "", 1000) != []

    doomed = recording.paths[0].name
    for path in recording.folder.glob("mic/2020-01-*/manifest.jsonl"):
        with path.open("a") as lines:
            lines.write(json.dumps({"kind": "deleted", "file": doomed, "reason": "age"}) + "\n")
    monkeypatch.undo()
    now.now += 61
    index.refresh()
    assert doomed not in {row["name"] for row in index.files("mic", "2020-01-01", None, 1000)}
    assert len(index.files("mic", "2020-01-01", None, 1000)) == 3


def test_files_that_begin_together_are_not_torn_apart_by_a_page(tmp_path: Path):
    times = {"time": "2026-11-21T09:00:00Z", "mono": 1.0, "boot": "b"}
    form = {"format": "wav", "rate": 8000, "channels": 1, "bits": 16}
    for source in ("attic", "hall", "kitchen"):
        lines = []
        for minute in range(3):
            opened = {"kind": "open", "file": f"{source}{minute}.wav", "first": minute * 480_000}
            wall = 1_795_251_600.123456 + 60 * minute
            lines += [{**opened, **times, **form, "wall": wall}]
            lines += [{"kind": "close", "file": opened["file"], "samples": 480_000, "bytes": 1}]
        path = tmp_path / source / "2026-11-21" / "manifest.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    index = Index(tmp_path)
    index.refresh()
    seen: list[str] = []
    before = None
    while page := index.files("", "", before, 2):
        before = page[-1]["at"]
        seen += [row["name"] for row in page]
    assert len(seen) == len(set(seen)) == 9


def test_lines_that_make_no_sense_cost_only_themselves(recording: Recording):
    manifest = recording.paths[0].parent / "manifest.jsonl"
    strange = [
        "nonsense",
        json.dumps({"kind": "open", "file": "../../etc/passwd", "first": 0, "wall": 1, "rate": 1}),
        json.dumps({"kind": "open", "file": "x.wav", "first": 0}),
        json.dumps({"kind": "gap", "first": 1, "samples": "many"}),
        json.dumps({"kind": "gap", "first": 1, "samples": 10**30, "reason": "xrun"}),
        '{"kind": "gap", "first": 1, "samples": 1, "offset": NaN, "seconds": NaN, "detail": ["\\ud800"]}',
    ]
    manifest.write_text("\n".join(strange) + "\n" + manifest.read_text())
    index = Index(recording.folder)
    index.refresh()
    assert len(index.files("", "", None, 10)) == 4


def test_the_page_lists_plays_and_shows_what_is_missing(recording: Recording):
    async def scene() -> None:
        async with (
            serving(recording) as (archive, _),
            open_page(viewport={"width": 360, "height": 740}) as page,
        ):
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(archive.address)
            buttons = page.get_by_role("button", name="Play mic")
            await expect(buttons).to_have_count(4)
            await expect(page.locator(".rec:visible")).to_have_count(1)
            await expect(page.get_by_text("20.0 s missing")).to_be_visible()
            await expect(page.get_by_text("unplug: No such device")).to_be_visible()
            await expect(page.get_by_text("1 recording")).to_be_visible()

            await buttons.nth(2).click()
            await page.evaluate("window.audio = document.querySelector('audio')")
            moved = "() => audio.currentTime > 0.2 && audio.duration"
            length = await (await page.wait_for_function(moved)).json_value()
            assert abs(length - 30.0) < 0.1
            await page.evaluate("audio.currentTime = 25")
            await page.wait_for_function("() => audio.currentTime > 25.1")

            await page.get_by_label("Day").select_option("2026-11-21")
            await expect(buttons).to_have_count(4)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360
            assert all(url.startswith((archive.address, "data:")) for url in asked)

    run(scene)


@pytest.mark.full
def test_the_page_says_when_the_archive_is_gone_and_finds_it_again(recording: Recording):
    async def scene() -> None:
        async with open_page() as page:
            async with serving(recording) as (archive, _):
                port = int(archive.address.rpartition(":")[2])
                await page.goto(archive.address)
                await expect(page.get_by_text("1 recording")).to_be_visible()
            lost = page.get_by_role("alert").filter(has_text="Trying again")
            await expect(lost).to_be_visible(timeout=15_000)
            async with Archive(recording.folder, recording.folder / "s", "127.0.0.1", port, ""):
                await expect(lost).to_be_hidden(timeout=15_000)

    run(scene)
