"""Runs on the target, as root: what the doctor's snapshot has not, as one JSON object on standard output.

Reads and changes nothing. In the root file system of an image, what needs a running system is left out, and
`running` is false.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.target.remote.common import configuration, read, run, start

AGENT = "pinna-agent.service"
RECORDER, ARCHIVE = "pinna-recorder.service", "pinna-archive.service"
UNITS = (
    *(AGENT, "systemd-timesyncd.service", "docker.socket", "docker.service", "pinna-firewall.service"),
    *(RECORDER, ARCHIVE),
)
PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,NRestarts,MainPID,Result"
COMMANDS = {
    "units": ("systemctl", "show", "--property", PROPERTIES, *UNITS),
    "failed": ("systemctl", "list-units", "--failed", "--plain", "--no-legend"),
    "security": ("systemd-analyze", "security", "--no-pager", AGENT),
}
SOUND_FILES = (
    "/etc/asound.conf",
    "/etc/alsa/conf.d/40-pinna.conf",
    "/etc/udev/rules.d/70-pinna-audio.rules",
    "/etc/modules-load.d/pinna-audio.conf",
    "/etc/modprobe.d/pinna-audio.conf",
    "/etc/security/limits.d/90-pinna-audio.conf",
)
"""Root's own, and readable by every program."""

FILES = (
    *SOUND_FILES,
    "/etc/pinna",
    "/etc/pinna/pinna.toml",
    "/etc/pinna/hub_token",
    "/etc/systemd/system/pinna-agent.service",
    "/var/lib/pinna-agent/session_token",
    "/etc/pinna/recorder.toml",
    "/opt/pinna",
    "/opt/pinna/releases",
    "/opt/pinna/current",
    "/opt/pinna/current/bin/pinna",
    "/usr/local/bin/pinna",
    "/opt/pinna/probe/compose.yaml",
    "/usr/lib/pinna/firstboot",
)


def is_running() -> bool:
    """Whether this is the system that the kernel has booted, not a root file system seen from another."""
    try:
        return Path("/proc/1/root").samefile("/") and Path("/run/systemd/system").is_dir()
    except OSError:
        return False


def file(name: str) -> dict[str, Any] | None:
    """Of one file: owner, group, mode (octal), kind, and whether what it leads to is there."""
    path = Path(name)
    try:
        found = path.lstat()
    except OSError:
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFREG: "file"}
    return {
        "owner": _name(pwd.getpwuid, found.st_uid),
        "group": _name(grp.getgrgid, found.st_gid),
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "kind": kinds.get(stat.S_IFMT(found.st_mode), "other"),
        "exists": path.exists(),
    }


def _name(lookup: Callable[[int], Any], number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def sha256(name: str) -> str:
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError:
        return ""


def units(shown: str) -> dict[str, dict[str, str]]:
    """PROPERTIES of each of UNITS, from what `systemctl show` says of them in this order."""
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in shown.split("\n\n")
    ]
    return dict(zip(UNITS, blocks, strict=False))


def exposure(said: str) -> float | None:
    """Of the agent, 0 (closed) to 10; None when systemd-analyze does not say."""
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    return float(found[1]) if found else None


def user() -> dict[str, Any] | None:
    try:
        found = pwd.getpwnam("pinna")
    except KeyError:
        return None
    groups = [_name(grp.getgrgid, number) for number in os.getgrouplist("pinna", found.pw_gid)]
    return {"uid": found.pw_uid, "groups": groups, "shell": found.pw_shell}


def process_owner(pid: str) -> str:
    try:
        return _name(pwd.getpwuid, Path(f"/proc/{pid}").stat().st_uid)
    except OSError:
        return ""


def recorder() -> dict[str, Any]:
    """What the recorder says of itself; empty when it does not run."""
    try:
        status: dict[str, Any] = json.loads(read(Path("/run/pinna-recorder/status.json")))
    except ValueError:
        return {}
    return status


def of_image() -> dict[str, Any]:
    states = {unit: run("systemctl", "is-enabled", unit)["out"].strip() for unit in UNITS}
    return {"units": {unit: {"UnitFileState": state} for unit, state in states.items()}}


def of_running_system() -> dict[str, Any]:
    started = {name: start(*command) for name, command in COMMANDS.items()}
    recorded = recorder()
    said = {name: answer()["out"] for name, answer in started.items()}
    shown = units(said["units"])
    return {
        "units": shown,
        "agent_runs_as": process_owner(shown.get(AGENT, {}).get("MainPID", "0")),
        "recorder_runs_as": process_owner(shown.get(RECORDER, {}).get("MainPID", "0")),
        "recorder": recorded,
        "failed": said["failed"].splitlines(),
        "exposure": exposure(said["security"]),
    }


def main() -> None:
    running = is_running()
    facts = {
        "running": running,
        "system": dict(re.findall(r'(?m)^([A-Z_]+)="?([^"\n]*)"?$', read(Path("/etc/os-release")))),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "files": {name: file(name) for name in FILES},
        "asound_sha256": sha256("/etc/asound.conf"),
        "overrides": read(Path("/etc/alsa/conf.d/40-pinna.conf")),
        "user": user(),
        "configuration": configuration(),
        **(of_running_system() if running else of_image()),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
