"""Runs in the root file system of an image, as root: what lies there, and what some files say.

    {"files": ["etc/machine-id", ...], "folders": ["etc", ...], "links": ["bin", ...],
     "special": ["dev/null", ...],
     "modes": {"usr/bin/su": "4755", ...}, "targets": {"etc/systemd/system/x.service": "/dev/null", ...},
     "texts": {"etc/machine-id": "uninitialized", ...}}

Names are relative to the root; `special` is what is neither file, link nor folder. What is another file
system's is left out; so are modes, targets and texts of what is not there.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

TEXTS = (
    "etc/default/raspi-firmware",
    "etc/dpkg/dpkg.cfg.d/pinna",
    "etc/fstab",
    "etc/hostname",
    "etc/machine-id",
    "etc/nftables-pinna.conf",
    "etc/pinna/hub_token",
    "etc/shadow",
    "etc/ssh/sshd_config.d/00-pinna.conf",
    "etc/systemd/system-preset/00-pinna.preset",
    "etc/systemd/system.conf.d/pinna-watchdog.conf",
    "var/lib/dpkg/diversions",
)
MODES = ("usr/bin/su", "usr/bin/sudo")
TARGETS = ("etc/systemd/system/systemd-firstboot.service",)

HOST = "/host-rootfs"
"""Where proot, which can be chroot for another processor's system, shows that the system of its host."""


def below(folder: str, device: int) -> Iterator[os.DirEntry[str]]:
    """All. Only folders are asked what they are: where each call is emulated, that takes long."""
    for entry in os.scandir(folder):
        if entry.path == HOST:
            continue
        yield entry
        if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_dev == device:
            yield from below(entry.path, device)


def kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "links"
    if entry.is_file(follow_symlinks=False):
        return "files"
    return "folders" if entry.is_dir(follow_symlinks=False) else "special"


def main() -> None:
    root = Path("/")
    names: dict[str, list[str]] = {"files": [], "folders": [], "links": [], "special": []}
    for entry in below("/", root.stat().st_dev):
        names[kind(entry)].append(entry.path.lstrip("/"))
    files, links = names["files"], names["links"]
    modules = [name for name in files if name.endswith("/modules.dep")]
    answer = {
        **names,
        "modes": {name: f"{stat.S_IMODE((root / name).stat().st_mode):o}" for name in MODES if name in files},
        "targets": {name: str((root / name).readlink()) for name in TARGETS if name in links},
        "texts": {
            name: (root / name).read_text(errors="replace") for name in (*TEXTS, *modules) if name in files
        },
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
