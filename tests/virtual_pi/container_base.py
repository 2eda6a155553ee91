"""A container's base image for the virtual Pi, which reaches no registry: a root file system as a tarball.

    python -m tests.virtual_pi.container_base     prints its path, for the variable docker_base_archive

It is the base system less all packages but those that dpkg and apt need and those that the probe's Dockerfile
installs, and less what Debian's slim images lack. Their maintainer scripts have run already, so it takes
neither root nor an emulator. Cached beside the base system. Owners are not kept: all is root's, right
for all but a few files of no use in a container.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from email.parser import Parser
from pathlib import Path

from tests.virtual_pi import base as base_system
from tests.virtual_pi.cache import cached
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.processes import need
from tests.virtual_pi.progress import step

WANTED = ("apt", "libportaudio2", "python3")
_LEFT_OUT = ("boot", "lost+found", "usr/lib/modules", "usr/lib/udev", "var/cache", "var/log")
_LEFT_OUT += (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
)  # as in Debian's slim images
_EMPTY = ("dev", "proc", "root", "run", "sys", "tmp", "var/cache", "var/log")
_NAME = "base.tar.gz"

Packages = Mapping[str, Mapping[str, str]]


def container_base(suite: str = base_system.SUITE) -> Path:
    """The tarball (gzip) that belongs to the current base system; made now, in seconds, unless there."""
    disk = base_system.base(suite).disk
    return cached(f"container-{suite}", base_system.key(), lambda work: _make(disk, work)) / _NAME


def installed(status: str) -> Packages:
    """The paragraphs of dpkg's status file by package name."""
    paragraphs = (Parser().parsestr(text, headersonly=True) for text in status.strip().split("\n\n"))
    return {paragraph["Package"]: dict(paragraph) for paragraph in paragraphs}


def closure(packages: Packages, wanted: Iterable[str]) -> set[str]:
    """`wanted`, all essential packages, and what they depend on."""
    providers: dict[str, list[str]] = {name: [name] for name in packages}
    for name, fields in packages.items():
        for alternative in _relations(fields.get("Provides", "")):
            for provided in alternative:
                providers.setdefault(provided, []).append(name)
    todo = [*wanted, *(name for name, fields in packages.items() if fields.get("Essential") == "yes")]
    kept: set[str] = set()
    while todo:
        name = todo.pop()
        if name in kept:
            continue
        kept.add(name)
        for field in ("Pre-Depends", "Depends"):
            for alternatives in _relations(packages[name].get(field, "")):
                there = [found for each in alternatives for found in providers.get(each, ())]
                if not kept.intersection(there):
                    todo.append(there[0])
    return kept


def _relations(field: str) -> Iterator[list[str]]:
    """`a (>= 1) | b, c:any` -> [a, b], [c]."""
    for relation in filter(None, (part.strip() for part in field.split(","))):
        yield [word.split()[0].split(":")[0] for word in relation.split("|")]


def _make(disk: Path, work: Path) -> None:
    debugfs = need("debugfs", "e2fsprogs")
    root = work / "root"
    root.mkdir()
    with step("making the base image for containers"):
        command = [debugfs, "-R", f"rdump / {root}", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        status = root / "var/lib/dpkg/status"
        if not status.exists():
            raise VirtualPiError(
                f"cannot read the base system's disk: {done.stderr.strip()}",
                hint=f"is {work.parent} full? Or else remove {disk.parent}: it is built anew",
            )
        packages = installed(status.read_text())
        kept = closure(packages, WANTED)
        _remove(root, set(packages) - kept, kept)
        paragraphs = status.read_text().strip().split("\n\n")
        status.write_text("".join(f"{p}\n\n" for p in paragraphs if next(iter(installed(p))) in kept))
        _pack(root, work / _NAME)
    shutil.rmtree(root)


def _remove(root: Path, packages: set[str], kept: set[str]) -> None:
    """Delete the files of `packages` that none of `kept` has too, and what dpkg knows of them."""
    info = root / "var/lib/dpkg/info"
    ours = {line for name in kept for file in _lists(info, name) for line in file.read_text().splitlines()}
    for name in packages:
        for file in _lists(info, name):
            for line in file.read_text().splitlines():
                path = root / line.lstrip("/")
                if line not in ours and (path.is_symlink() or path.is_file()):
                    path.unlink()
        for file in (*info.glob(f"{name}.*"), *info.glob(f"{name}:*.*")):
            file.unlink()


def _lists(info: Path, name: str) -> list[Path]:
    return [file for file in (info / f"{name}.list", *info.glob(f"{name}:*.list")) if file.exists()]


def _pack(root: Path, archive: Path) -> None:
    def entry(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = info.name.removeprefix("./")
        if any(name == left or name.startswith(f"{left}/") for left in (*_LEFT_OUT, *_EMPTY)):
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        return info

    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        tar.add(root, ".", filter=entry)
        for name in _EMPTY:
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            folder.mode = stat.S_ISVTX | 0o777 if name == "tmp" else 0o755
            tar.addfile(folder)


if __name__ == "__main__":
    print(container_base())
