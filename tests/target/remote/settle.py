"""Runs on the target, as root: wait until all that starts at boot has started, and the agent is connected.

Prints {"boot": id of this boot, "seconds": how long that took}, also when patience has ended: the facts tell
what is wrong then.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.target.remote.common import MICROPHONE, configuration, health, run

PATIENCE_SECONDS = 300

if __name__ == "__main__":
    began = time.monotonic()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    run("systemctl", "is-system-running", "--wait", seconds=PATIENCE_SECONDS)
    settings = configuration()
    while not (MICROPHONE.exists() and health(settings).get("connected")):
        if time.monotonic() - began > PATIENCE_SECONDS:
            break
        time.sleep(0.5)
    print(json.dumps({"boot": boot, "seconds": round(time.monotonic() - began, 1)}))
