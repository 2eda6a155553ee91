"""Runs on the target, as root: what the probe's container hears, as its own JSON, or {"error": ...}."""

from __future__ import annotations

import json
from typing import Any

from tests.target.remote.common import compose, heard_in_container, no_container


def probe() -> dict[str, Any]:
    trouble = no_container()
    return {"error": trouble} if trouble else heard_in_container(compose("run", "--rm", "-T", "probe"))


if __name__ == "__main__":
    print(json.dumps(probe()))
