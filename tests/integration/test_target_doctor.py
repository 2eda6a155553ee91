"""The doctor's part of tests/target, on this machine as if systemd had booted it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinna.doctor.causes import LINKS

ROOT = Path(__file__).parents[2]
SNAPSHOTS = ROOT / "tests/unit/doctor/snapshots"
BOOTED = "mount -t tmpfs none /run && mkdir -p /run/systemd/system"
IN_NAMESPACE = ("unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c")


def proof(host: str = "local://", **environment: str) -> str:
    """What tests/target says."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--hosts={host}"]
    done = subprocess.run(
        [*IN_NAMESPACE, f'{BOOTED} && exec "$@"', "sh", *command, "tests/target/test_doctor.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def proof_of(folder: Path, name: str, hub: str) -> str:
    """The same of a host where a saved snapshot is seen: its ssh leads to a python3 that answers that."""
    snapshot = json.loads((SNAPSHOTS / f"{name}.json").read_text())
    snapshot["settings"]["hub"] = hub
    (folder / "snapshot.json").write_text(json.dumps(snapshot))
    scripts = {
        "ssh": f'for last; do :; done; PATH={folder}:$PATH exec sh -c "$last"',
        "python3": f'case "$*" in *--seconds*) cat >/dev/null; exec cat {folder}/snapshot.json; esac; '
        f'exec {sys.executable} "$@"',
    }
    for program, script in scripts.items():
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
    return proof("ssh://kitchen", PATH=f"{folder}:{os.environ['PATH']}")


def test_what_is_broken_fails_with_its_cure_and_the_rest_waits() -> None:
    said = proof(ALSA_CONFIG_PATH="/nonexistent/alsa.conf")
    assert "ALSA configuration: /nonexistent/alsa.conf, which all" in said
    assert "As root: apt-get update && apt-get install --reinstall -y libasound2-data" in said
    assert "sound: waits for: " in said


def test_of_a_healthy_device_all_that_can_be_seen_passes(tmp_path: Path) -> None:
    said = proof_of(tmp_path, "healthy", "http://10.0.2.2:8080")
    assert f"{len(LINKS) - 1} passed, 1 skipped" in said
    assert "supply: " in said


@pytest.mark.parametrize(
    ("hub", "ends"),
    [
        ("http://hub.local:8080", f"{len(LINKS) - 2} passed, 2 skipped"),
        ("http://10.0.2.2:8080", f"1 failed, {len(LINKS) - 2} passed, 1 skipped"),
    ],
    ids=["never-set", "set"],
)
def test_a_hub_that_is_not_there_fails_whoever_has_set_one(tmp_path: Path, hub: str, ends: str) -> None:
    said = proof_of(tmp_path, "broken-hub-not-running", hub)
    assert ends in said
    assert ("nobody has set pinna_hub_url" in said) == ("failed" not in ends)
