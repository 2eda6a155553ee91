"""Samples lost where one file ends and the next begins: ours and its peers, at the same time on one card.

The card's samples are numbered (tests/support/counting_card.c), so that nobody has to be believed. Peers
begin a file every two seconds; ours cuts at full minutes of the clock, and is waited for.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.bench.processes import started
from tests.support.counting import CHANNELS, PCM, RATE, card, numbers
from tests.support.recorders import recorder
from tests.support.waiting import eventually

ARECORD = ["arecord", "-q", "-D", PCM, "-f", "S16_LE", "-r", str(RATE), "-c", str(CHANNELS)]
ARECORD += ["--max-file-time", "2"]
FFMPEG = [
    "ffmpeg",
    "-v",
    "error",
    "-nostdin",
    "-f",
    "alsa",
    "-channels",
    str(CHANNELS),
    "-sample_rate",
    str(RATE),
]
FFMPEG += ["-i", PCM, "-f", "segment", "-segment_time", "2"]
PEERS = {
    "arecord --max-file-time": [*ARECORD, "a.wav"],
    "arecord --max-file-time, periods of 1024 samples": [*ARECORD, "--period-size=1024", "a.wav"],
    "ffmpeg -f segment (WAV)": [*FFMPEG, "%d.wav"],
    "ffmpeg -f segment (FLAC)": [*FFMPEG, "%d.flac"],
}
OURS = "".join(
    f'[sources.{kind}]\ndevice = "{PCM}"\nformat = "{kind}"\nchannels = {CHANNELS}\nsplit_minutes = 1\n'
    for kind in ("wav", "flac")
)


def run(quick: bool) -> Iterator[dict[str, Any]]:
    files = 2 if quick else 5
    with tempfile.TemporaryDirectory() as name:
        environment = card(Path(name))
        folders = {what: Path(name, str(k)) for k, what in enumerate([*PEERS, "pinna"])}
        for folder in folders.values():
            folder.mkdir()
        with contextlib.ExitStack() as stack:
            for what, words in PEERS.items():
                stack.enter_context(started(words, folders[what], environment))
            ours = stack.enter_context(recorder(environment, folders["pinna"], OURS))
            archive = ours.archive
            eventually(lambda: len([*archive.glob("flac/*/*.flac")]) >= files, 60 * files + 60, what="cut")
            assert ours.program.stop(seconds=30) == 0
        for what in PEERS:
            yield {"rotating": what, **losses([*folders[what].iterdir()])}
        for kind in ("wav", "flac"):
            found = losses([*archive.glob(f"{kind}/*/*.{kind}")])
            yield {"rotating": f"pinna record ({kind.upper()})", **found}


def losses(paths: list[Path]) -> dict[str, Any]:
    kept = [part for path in paths if path.suffix in (".wav", ".flac") and len(part := _numbers(path))]
    kept.sort(key=lambda part: int(part[0]))
    between = [int(after[0]) - int(before[-1]) - 1 for before, after in pairwise(kept)]
    return {
        "rotations": len(between),
        "lost there": sum(between),
        "at worst": max(between),
        "lost elsewhere": sum(int((np.diff(part) - 1).sum()) for part in kept),
    }


def _numbers(path: Path) -> NDArray[np.int64]:
    """By ffmpeg: the FLAC files of its own segment muxer have no length that libsndfile could believe."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "s16le", "-"]
    return numbers(subprocess.run(command, capture_output=True, check=True).stdout)
