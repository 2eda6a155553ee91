"""Runs on the target: {"boot": id of this boot}."""

from __future__ import annotations

import json
from pathlib import Path

print(json.dumps({"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}))
