"""Small questions to the file system, and one wish."""

from __future__ import annotations

import os
from pathlib import Path


def free_name(folder: Path, name: str, suffix: str) -> Path:
    """Nobody else makes files there (the archive is locked), and what there is is never written over."""
    path, number = folder / f"{name}{suffix}", 2
    while path.exists():
        path, number = folder / f"{name}_{number}{suffix}", number + 1
    return path


def peaks_of(path: Path) -> Path:
    """Where the waveform of a file is kept (see `peaks`)."""
    return path.with_name(f"{path.name}.peaks")


def sync_folder(folder: Path) -> None:
    """A new name survives a power cut once its folder is on the disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def size_of(path: Path) -> int:
    """Zero for what is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def reason_of(error: OSError) -> str:
    """What to tell an operator, without number and path."""
    return os.strerror(error.errno) if error.errno else str(error)


def free_bytes(directory: Path) -> int:
    """For this user. Zero when the disk does not answer."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize
