"""Runs on the target, as root: what the probe's container hears, as its own JSON, or {"error": ...}."""

from __future__ import annotations

import json
from typing import Any

from tests.target.remote.common import run

COMMAND = ("docker-compose", "--file", "/opt/pinna/probe/compose.yaml", "run", "--rm", "-T", "probe")
PATIENCE_SECONDS = 300  # an emulated Pi takes half a minute to start a container


def main() -> None:
    said = run(*COMMAND, seconds=PATIENCE_SECONDS)
    lines = said["out"].strip().splitlines()
    try:
        heard: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        reason = said["err"].splitlines() or [f"it ended with code {said['code']}"]
        heard = {"error": reason[-1]}
    print(json.dumps(heard))


if __name__ == "__main__":
    main()
