"""pymicro-wakeword as it is installed, but for one model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pymicro_wakeword


def broken(folder: Path, word: str, model: bytes | None) -> Path:
    """What to put into PYTHONPATH: `model` is in the place of that word's; None: none is there."""
    copy = folder / "packages" / "pymicro_wakeword"
    shutil.copytree(Path(pymicro_wakeword.__file__).parent, copy)
    path = copy / "models" / f"{word}.tflite"
    path.unlink()
    if model is not None:
        path.write_bytes(model)
    return copy.parent
