"""The sound of a file: by libsndfile, and what that does not know (AAC, Ogg FLAC) by FFmpeg's libraries."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pinna.errors import ConfigError
from pinna.recorder.formats.sndfile import load


def open_sound(source: Path | io.RawIOBase) -> Any:
    """A `soundfile.SoundFile`, or what is used like one. Raises ValueError where none decodes it; OSError."""
    try:
        soundfile = load()
    except ConfigError:
        return _by_ffmpeg(source)
    try:
        return soundfile.SoundFile(source)
    except soundfile.LibsndfileError:
        return _by_ffmpeg(source)


def _by_ffmpeg(source: Path | io.RawIOBase) -> Any:
    from pinna.recorder.ffmpeg import AvSound  # noqa: PLC0415  (20 MB, which most do without)

    return AvSound(source)
