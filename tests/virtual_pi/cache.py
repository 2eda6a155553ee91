"""What takes minutes to make is made once, and kept under the user's cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.virtual_pi.progress import say

_KEPT = 2  # of each kind: this one and the one before, which another checkout may use


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/pinna/virtual-pi, made if need be."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "pinna" / "virtual-pi"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `kind`-`key`, which `make` fills when the cache does not hold it.

    It is made beside its place and moved there whole: a `make` that fails or is killed leaves none.
    """
    cache = cache_folder()
    folder = cache / f"{kind}-{key}"
    if not folder.is_dir():
        with _lock(cache / f".lock-{kind}", kind):
            if not folder.is_dir():
                _make(kind, folder, make)
    os.utime(folder)
    return folder


@contextmanager
def _lock(file: Path, kind: str) -> Iterator[None]:
    """One maker at a time; the second waits, and then finds the first one's result."""
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process makes {kind}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make(kind: str, folder: Path, make: Callable[[Path], None]) -> None:
    for left in folder.parent.glob(f".making-{kind}-*"):  # by a process that was killed; we hold the lock
        shutil.rmtree(left)
    work = Path(tempfile.mkdtemp(prefix=f".making-{kind}-", dir=folder.parent))
    try:
        make(work)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    made = sorted(folder.parent.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in made[_KEPT:]:
        if old.is_dir():
            shutil.rmtree(old)
        else:  # some older checkouts kept the containers' base image as a file
            old.unlink()
