"""The system as a tar in one canonical form: the same files give the same bytes, wherever they come from."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from image.errors import ImageError

BOOT = "boot/firmware"
"""What lies below is the boot partition's."""

_MOUNTED = ("dev", "proc", "run", "sys", "tmp", BOOT)
"""Folders that are there and empty, for others are mounted over them."""


@dataclass(frozen=True)
class File:
    """One regular file of the boot partition."""

    path: PurePosixPath
    content: bytes


def canonical(source: Path, target: Path, *, epoch: int) -> None:
    """Write `source` (a tar, or a disk that begins with one) sorted to `target`, no time later than `epoch`.

    Owners are numbers, extended attributes stay, other times than that of the last change go. Of names of one
    file the first holds the content. What is below a folder that others are mounted over is left out, but for
    the boot partition's, which `boot_files` reads.
    """
    with tarfile.open(source) as tar, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        entries = {_name(entry): entry for entry in tar if _name(entry) not in ("", "lost+found")}
        for folder in _MOUNTED:
            entries[folder] = _folder(folder)
        content = _first_names(entries)
        for name, entry in sorted(entries.items(), key=lambda pair: pair[0].split("/")):
            if not _kept(name, entry):
                continue
            holder = content.get(name, name)
            info = _plain(entries[holder] if holder != name else entry, name, epoch)
            if holder_of := _linked_to(name, content):
                info.type, info.linkname, info.size = tarfile.LNKTYPE, f"./{holder_of}", 0
                out.addfile(info)
            elif info.isreg():
                out.addfile(info, tar.extractfile(entries[holder]))
            else:
                out.addfile(info)


def boot_files(archive: Path) -> list[File]:
    """The boot partition's files, sorted by name. `archive` is what `canonical` wrote."""
    found = []
    with tarfile.open(archive) as tar:
        for entry in tar:
            if _name(entry).startswith(f"{BOOT}/") and entry.isreg():
                data = tar.extractfile(entry)
                assert data is not None
                found.append(File(PurePosixPath(_name(entry)).relative_to(BOOT), data.read()))
    return found


def read(archive: Path, name: str) -> bytes:
    """The content of one file. Raises ImageError if the system has none of that name."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            if _name(entry) == name and entry.isreg():
                data = tar.extractfile(entry)
                assert data is not None
                return data.read()
    raise ImageError(f"the system has no file /{name}", hint="Build it anew: image/build --fresh")


def _name(entry: tarfile.TarInfo) -> str:
    name = entry.name.removeprefix("./").strip("/")
    return "" if name == "." else name


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = 0o1777 if name == "tmp" else 0o755
    return info


def _kept(name: str, entry: tarfile.TarInfo) -> bool:
    below = any(name.startswith(f"{folder}/") for folder in _MOUNTED if folder != BOOT)
    if name.startswith(f"{BOOT}/"):
        return entry.isreg() or entry.isdir()
    return not below and not entry.isdev()


def _first_names(entries: dict[str, tarfile.TarInfo]) -> dict[str, str]:
    """Of each name of a file that has several: the name under which `entries` holds its content."""
    held = {name: _name_of(entry.linkname) for name, entry in entries.items() if entry.islnk()}
    return {**held, **{holder: holder for holder in held.values()}}


def _name_of(link: str) -> str:
    return link.removeprefix("./").strip("/")


def _linked_to(name: str, content: dict[str, str]) -> str:
    """The first of the file's names, unless `name` is that."""
    if name not in content:
        return ""
    names = sorted(
        (other for other in content if content[other] == content[name]), key=lambda other: other.split("/")
    )
    return names[0] if names[0] != name else ""


def _plain(entry: tarfile.TarInfo, name: str, epoch: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{name}")
    info.type = tarfile.REGTYPE if entry.isreg() else entry.type
    info.size = entry.size if entry.isreg() else 0
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.linkname = entry.linkname if entry.issym() else ""
    info.mtime = min(int(entry.mtime), epoch)
    info.pax_headers = {
        key: value for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr.")
    }
    return info


def members(archive: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Names without a leading slash, and what the tar says of them."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            yield _name(entry), entry
