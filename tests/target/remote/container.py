"""Runs on the target, as root: what the probe's container hears, as its own JSON.

Or {"error": ...}; {"not_built": ...} while its image is not there.
"""

from __future__ import annotations

import json
from typing import Any

from tests.target.remote.common import compose, heard_in_container, no_container


def probe() -> dict[str, Any]:
    return no_container() or heard_in_container(compose("run", "--rm", "-T", "probe"))


if __name__ == "__main__":
    print(json.dumps(probe()))
