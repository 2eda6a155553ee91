"""Echo cancellers side by side: `python -m tests.bench.echo [--json] [--quick]`.

The facts' scenes (72 s; see tests.support.scenes) and random ones of a fixed seed. CPU is process time
of the same run, as a part of plain Speex's at 48 kHz and of Speex's at 16 kHz with preprocessor, tail 100 ms.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
from tests.support.scenes import Scene, render, score

from pinna.audio import speexdsp
from pinna.audio.aec import create
from pinna.config import EchoConfig
from pinna.frame import SAMPLE_RATE, Samples


class Engine(Protocol):
    def process(self, near: Samples, far: Samples) -> Samples: ...


class Speex:
    """Speex as it comes, in frames of 20 ms: no alignment, one clock."""

    def __init__(self, rate: int, tail_ms: int, *, preprocess: bool) -> None:
        frame = rate // 50
        self._same = rate == SAMPLE_RATE
        self._echo = speexdsp.EchoState(frame, rate * tail_ms // 1000, rate)
        self._residual = (
            speexdsp.Preprocessor(frame, rate, echo=self._echo, double_talk_suppress_db=-40)
            if preprocess
            else None
        )
        self._near, self._far = (speexdsp.Resampler(SAMPLE_RATE, rate) for _ in range(2))
        self._up = speexdsp.Resampler(rate, SAMPLE_RATE)

    def process(self, near: Samples, far: Samples) -> Samples:
        if not self._same:
            near, far = self._near.process(near), self._far.process(far)
        out = self._echo.cancel(near, far)
        if self._residual is not None:
            self._residual.run(out)
        return out if self._same else self._up.process(out)


ENGINES: dict[str, Callable[[], Engine]] = {
    "none": lambda: create(EchoConfig(engine="none")),
    "speex 48k t100": lambda: Speex(48_000, 100, preprocess=False),
    "speex 16k t100 pp": lambda: Speex(16_000, 100, preprocess=True),
    "speex 16k t200 pp": lambda: Speex(16_000, 200, preprocess=True),
    "pinna speexdsp": lambda: create(EchoConfig()),
    "webrtc": lambda: create(EchoConfig(engine="webrtc")),
}

FACTS = (
    Scene(name="40 ms"),
    Scene(name="120 ms", delay_ms=120),
    Scene(name="50 ppm", drift_ppm=50),
    Scene(name="harsh loudspeaker", loudspeaker="harsh"),
)


def random_scenes(count: int, seed: int) -> list[Scene]:
    """Delay, drift, room, levels, slips and the order of things, drawn at random."""
    rng = np.random.default_rng(seed)
    scenes = []
    for n in range(count):
        slip = rng.random() < 0.25
        quiet_start = rng.random() < 0.3
        scenes.append(
            Scene(
                name=f"random {seed}/{n}",
                seed=1000 * seed + n,
                delay_ms=float(rng.uniform(10, 300)),
                drift_ppm=float(rng.choice([0.0, rng.uniform(-100, 100)])),
                slips=((0.55, float(rng.uniform(2, 20) * rng.choice([-1, 1]))),) if slip else (),
                rt60=float(rng.uniform(0.2, 0.5)),
                echo_db=float(rng.uniform(-28, -18)),
                near_db=float(rng.uniform(-32, -24)),
                noise_db=float(rng.uniform(-65, -52)),
                loudspeaker="harsh" if rng.random() < 0.15 else "clean",
                far="music" if rng.random() < 0.15 else "speech",
                far_from=0.1 if quiet_start else 0.0,
                near_first=quiet_start and rng.random() < 0.5,
            )
        )
    return scenes


def measure(scene: Scene, engines: dict[str, Callable[[], Engine]]) -> list[dict[str, Any]]:
    take = render(scene)
    frames = list(take.frames())
    rows = []
    for name, make in engines.items():
        engine = make()
        start = time.process_time()
        out = np.concatenate([engine.process(near, far) for near, far in frames])
        spent = (time.process_time() - start) / len(frames)
        result = {key: round(value, 3) for key, value in asdict(score(take, out)).items()}
        rows.append({"scene": scene.name, "engine": name, **result, "cpu_us": round(spent * 1e6, 1)})
    cost = {row["engine"]: row["cpu_us"] for row in rows}
    for row in rows:
        row["cpu_to_48k"] = round(row["cpu_us"] / cost["speex 48k t100"], 2)
        row["cpu_to_16k_pp"] = round(row["cpu_us"] / cost["speex 16k t100 pp"], 2)
    return rows


def run(quick: bool) -> list[dict[str, Any]]:
    """One row per scene and engine. `quick`: scenes of 30 s, and two random ones instead of twelve."""
    scenes = [*FACTS, *random_scenes(2 if quick else 12, seed=3)]
    if quick:
        scenes = [replace(scene, seconds=30.0) for scene in scenes]
    return [row for scene in scenes for row in measure(scene, ENGINES)]


def main() -> None:
    rows = run("--quick" in sys.argv)
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return
    columns = (
        "erle",
        "sdr",
        "filtered_sdr",
        "stoi",
        "near_sdr",
        "ten_db_s",
        "lag_ms",
        "cpu_to_48k",
        "cpu_to_16k_pp",
    )
    print(f"{'scene':20} {'engine':18}", *(f"{column:>13}" for column in columns))
    for row in rows:
        print(f"{row['scene']:20} {row['engine']:18}", *(f"{row[column]:13}" for column in columns))


if __name__ == "__main__":
    main()
