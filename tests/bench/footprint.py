"""What the agent weighs: memory while it streams both ways, and the time to import it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.programs import agent, hub
from tests.support.waiting import eventually

from pinna.demo.sound import VirtualSound


def run(quick: bool) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name, VirtualSound() as sound:
        folder = Path(name)
        with hub(sound, folder, "echo") as (_, url), agent(sound, folder, url) as device:
            device.wait_connected()
            frames = 250 if quick else 1500
            eventually(lambda: device.health()["tts_frames_played"] > frames, 120, what="streaming")
            pid = device.program.process.pid
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            for key, what in (("Rss:", "resident, MB"), ("Pss:", "proportional, MB")):
                kib = next(int(line.split()[1]) for line in rollup if line.startswith(key))
                rows.append({"agent": what, "value": round(kib * 1024 / 1e6, 1)})
    for module in ("pinna.cli", "pinna.app", "aiortc"):
        times = []
        for _ in range(3 if quick else 7):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=os.environ)
            times.append(time.perf_counter() - began)
        rows.append({"agent": f"python -c 'import {module}', s", "value": round(min(times), 2)})
    return rows
