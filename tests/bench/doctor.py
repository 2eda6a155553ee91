"""How long `pinna doctor` takes: this machine, and a hundred hosts at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SSH = 'while [ "$1" != -- ]; do shift; done; shift 2; sleep 0.3; exec sh -c "$*"'
"""In place of ssh: this machine again and again, each time after 0.3 s, as a handshake takes."""


def run(quick: bool) -> list[dict[str, Any]]:
    hosts = 10 if quick else 100
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ssh = Path(folder) / "ssh"
        ssh.write_text(f"#!/bin/sh\n{SSH}\n")
        ssh.chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        many = [word for number in range(hosts) for word in ("--host", f"pi{number}")]
        for name, arguments in (("one machine", []), (f"{hosts} hosts, ssh simulated", many)):
            began = time.perf_counter()
            command = [sys.executable, "-m", "pinna", "doctor", "--json", *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            assert done.returncode in (0, 13, 14), done.stderr.decode()
            rows.append({"doctor": f"{name}, s", "value": round(time.perf_counter() - began, 2)})
    return rows
