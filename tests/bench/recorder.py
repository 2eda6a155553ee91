"""The recorder beside its peers, and the archive with a hundred thousand files.

Recording: one microphone for all, 48 kHz mono, each program alone, several sources in one. CPU is the time
of the program and its children as a share of one core; memory is proportional (PSS), of all of them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from playwright.async_api import expect
from tests.bench import capturing, rotating
from tests.bench.processes import started
from tests.support.browser import open_page
from tests.support.waiting import eventually

from pinna.archive.server import Archive
from pinna.demo.sound import MICROPHONE, VirtualSound

FILES = 100_000
SOURCES = 4
RATE = 48_000
NOISE_SECONDS = 120


def run(quick: bool) -> list[dict[str, Any]]:
    rows = [*recording(10 if quick else 40), *capturing.run(quick), *rotating.run(quick)]
    with tempfile.TemporaryDirectory() as name:
        make_archive(Path(name), FILES)
        rows += asyncio.run(looking(Path(name), 5 if quick else 65))
    return rows


def recording(seconds: int) -> Iterator[dict[str, Any]]:
    arecord = ["arecord", "-q", "-D", MICROPHONE, "-f", "S16_LE", "-r", str(RATE), "-c", "1"]
    ffmpeg = ["ffmpeg", "-v", "error", "-nostdin", "-f", "alsa", "-channels", "1", "-sample_rate", str(RATE)]
    segments = ["-i", MICROPHONE, "-f", "segment", "-segment_time", "60"]
    for what, count, command in (
        ("arecord --max-file-time (WAV)", 1, [*arecord, "--max-file-time", "60", "a.wav"]),
        ("ffmpeg -f segment (WAV)", 1, [*ffmpeg, *segments, "%d.wav"]),
        ("ffmpeg -f segment (FLAC)", 1, [*ffmpeg, *segments, "%d.flac"]),
        *(
            (f"pinna record ({form.upper()}, {count} source{'s' * (count > 1)})", count, pinna(form, count))
            for form, count in (("wav", 1), ("flac", 1), ("opus", 1), ("wav", 8), ("flac", 8))
        ),
    ):
        yield {"recording": what, **measured(what, count, command, seconds)}


def measured(what: str, count: int, command: list[str] | str, seconds: int) -> dict[str, Any]:
    """`command`: a list of words, or a configuration of the recorder."""
    rng = np.random.default_rng(1)
    with VirtualSound() as sound, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(command, str):
            (folder / "recorder.toml").write_text(command.format(folder=folder))
            command = [sys.executable, "-m", "pinna", "record", "--config", str(folder / "recorder.toml")]
        (folder / "noise").write_bytes(rng.normal(0, 500, NOISE_SECONDS * RATE).astype("<i2").tobytes())
        play = ["paplay", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1", "--device=mic"]
        with (
            started([*play, str(folder / "noise")], folder, sound.environment),
            started(command, folder, sound.environment) as process,
        ):
            eventually(lambda: _bytes(folder) > count * RATE // 8, 30, what=f"{what} records")
            return _cost(process, seconds, count)


def pinna(form: str, count: int) -> str:
    general = (
        '[general]\ndirectory = "{folder}/archive"\nstatus_file = "{folder}/status.json"\nreserve_mb = 1\n'
    )
    return general + "".join(
        f'[sources.s{k}]\ndevice = "{MICROPHONE}"\nformat = "{form}"\nrate = {RATE}\n' for k in range(count)
    )


def _bytes(folder: Path) -> int:
    kinds = {".wav", ".flac", ".opus"}
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in kinds)


def _cost(process: psutil.Process, seconds: int, count: int) -> dict[str, Any]:
    def spent() -> float:
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    before, began = spent(), time.monotonic()
    time.sleep(seconds)
    share = (spent() - before) / (time.monotonic() - began)
    memory = sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True)))
    return {
        "CPU per source, %": round(100 * share / count, 2),
        "memory, MB": round(memory / 1e6, 1),
        "memory per source, MB": round(memory / 1e6 / count, 1),
    }


def make_archive(folder: Path, files: int) -> None:
    """The manifests of so many one-minute files of four sources, the last of each open. No sound."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for source in (f"mic{k}" for k in range(SOURCES)):
        days: dict[str, list[dict[str, Any]]] = {}
        for n in range(files // SOURCES):
            at = start + timedelta(minutes=n)
            name = f"{source}_{at.strftime('%Y-%m-%dT%H-%M-%S+0000')}.flac"
            times = {"wall": at.timestamp(), "time": at.isoformat(), "mono": 60.0 * n, "boot": "b"}
            form = {"format": "flac", "rate": RATE, "channels": 1, "bits": 16}
            lines = days.setdefault(at.strftime("%Y-%m-%d"), [])
            lines.append({"kind": "open", "file": name, "first": n * 60 * RATE, **times, **form})
            if n < files // SOURCES - 1:
                lines.append(
                    {"kind": "close", "file": name, "samples": 60 * RATE, "bytes": 2_500_000, **times}
                )
                lines.append({"kind": "sha256", "file": name, "sha256": "0" * 64})
        for day, lines in days.items():
            path = folder / source / day / "manifest.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))


async def looking(folder: Path, seconds: int) -> list[dict[str, Any]]:
    """Answers from the moment the server is up, while it still reads, and for a minute of growing files."""
    answers: dict[str, list[float]] = {}
    whole = None
    async with (
        Archive(folder, folder / "status.json", "127.0.0.1", 0, "") as archive,
        aiohttp.ClientSession(archive.address) as http,
    ):
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or whole is None:
            for path in ("sources", "files", "files?source=mic1&before=1772323200", "gaps", "storage"):
                asked = time.perf_counter()
                async with http.get(f"/api/{path}") as answer:
                    body = await answer.json()
                kind = "while it is being read" if whole is None else "afterwards"
                answers.setdefault(kind, []).append(time.perf_counter() - asked)
                if whole is None and body.get("reading") is False:
                    whole = time.perf_counter() - began
            await asyncio.sleep(0.05)
        async with open_page() as page:
            asked = time.perf_counter()
            await page.goto(archive.address)
            await expect(page.get_by_role("button", name="Play mic").first).to_be_visible()
            shown = time.perf_counter() - asked
    rows = [
        {
            "archive of 100,000 files": f"answers {kind}, ms",
            "median": round(1000 * statistics.median(found)),
            "slowest": round(1000 * max(found)),
        }
        for kind, found in answers.items()
    ]
    rows.append({"archive of 100,000 files": "read completely after, s", "median": round(whole, 1)})
    rows.append({"archive of 100,000 files": "page with its first list, ms", "median": round(1000 * shown)})
    return rows
