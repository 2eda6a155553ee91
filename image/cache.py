"""What a build has finished stays, keyed by all that went in: one that was cut short goes on from there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from image.errors import NoSpaceError
from tests.virtual_pi import cache

NEEDS_FREE = 6 << 30


def digest(*parts: object) -> str:
    """Twelve hexadecimal digits over `parts`: of a path its content, of anything else its repr."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if isinstance(part, Path) else repr(part).encode())
        total.update(b"\0")
    return total.hexdigest()[:12]


def files(*roots: Path) -> Iterator[object]:
    """Name and content of each file below `roots`, for `digest`, in order, less what Python caches."""
    for root in roots:
        for path in sorted((root, *root.rglob("*"))):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root.parent).as_posix()
                yield path


def stage(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder that `build` has filled for this key; filled now unless it is there.

    One process builds; another one waits, and then finds the first one's result. Stages may nest.
    """

    def make(work: Path) -> None:
        need_space(work, NEEDS_FREE)
        build(work)

    return cache.cached(f"image-{name}", key, make)


def forget(name: str, key: str) -> None:
    """Have the stage built anew."""
    shutil.rmtree(cache.cache_folder() / f"image-{name}-{key}", ignore_errors=True)


def need_space(at: Path, wanted: int) -> None:
    free = shutil.disk_usage(at).free
    if free < wanted:
        raise NoSpaceError(
            f"{at} has {free >> 20} MB free, the image needs {wanted >> 20} MB to build",
            hint="Free some space, or set XDG_CACHE_HOME (or --output) to a folder on another disk",
        )
