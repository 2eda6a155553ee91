"""Runs on the target, as root: what the probe's container hears, as its own JSON, or {"error": ...}."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.target.remote.common import read, run

COMPOSE = Path("/opt/pinna/probe/compose.yaml")
PATIENCE_SECONDS = 300  # an emulated Pi takes half a minute to start a container


def probe() -> dict[str, Any]:
    named = re.search(r"(?m)^ *image: *(\S+)", read(COMPOSE))
    if named is None:
        return {"error": f"{COMPOSE} names no image"}
    # Compose would build it now, which is not a test's to do.
    if run("docker", "image", "inspect", named[1])["code"]:
        return {"error": f"its image {named[1]} is not there: run site.yml with --tags docker"}
    said = run(
        "docker-compose", "--file", str(COMPOSE), "run", "--rm", "-T", "probe", seconds=PATIENCE_SECONDS
    )
    try:
        heard: dict[str, Any] = json.loads(said["out"].strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = said["err"].splitlines() or [f"it ended with code {said['code']}"]
        return {"error": reason[-1]}
    return heard


if __name__ == "__main__":
    print(json.dumps(probe()))
