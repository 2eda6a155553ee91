"""`make bench`: every figure in one run, side by side with its peers, as tables and as build/bench.json."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.bench import (
    doctor,
    echo,
    fleet,
    footprint,
    hub_speaks,
    image,
    link,
    recorder,
    sender,
    voice,
    wakeword,
)

SECTIONS = {
    "sending a frame": sender.run,
    "the link under loss": link.run,
    "footprint": footprint.run,
    "doctor": doctor.run,
    "echo": echo.run,
    "voice service": voice.run,
    "wake words": wakeword.run,
    "wake words while the hub speaks": hub_speaks.run,
    "tones": hub_speaks.tones,
    "recording": recorder.run,
    "provisioning": fleet.run,
    "image": image.run,
}
RESULT = Path("build/bench.json")


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    ]
    return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, noisier figures")
    parser.add_argument(
        "--only", choices=SECTIONS, action="append", help="this section alone; may be repeated"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "quick": options.quick}
    print(result["machine"])
    failed = False
    for name in options.only or SECTIONS:
        began = time.monotonic()
        print(f"measuring: {name} …", file=sys.stderr, flush=True)
        try:
            result[name] = SECTIONS[name](options.quick)
        except Exception as error:  # noqa: BLE001  (one section must not cost the others; it fails the run)
            traceback.print_exc()
            result[name], failed = [{"error": str(error) or type(error).__name__}], True
        print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{table(result[name])}", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten to {RESULT}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
