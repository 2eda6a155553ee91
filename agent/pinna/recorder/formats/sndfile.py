"""FLAC and Opus while they are recorded, by libsndfile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from pinna.errors import ConfigError
from pinna.recorder.formats.form import Form

_KINDS = {
    ("flac", 16): ("FLAC", "PCM_16"),
    ("flac", 24): ("FLAC", "PCM_24"),
    ("opus", 16): ("OGG", "OPUS"),
}


class SndFile:
    """See SegmentFile. The encoder holds back up to 4096 samples (FLAC) or one second (Opus)."""

    def __init__(self, path: Path, form: Form) -> None:
        soundfile = load()
        container, subtype = _KINDS[form.format, form.bits]
        self._dtype = "int16" if form.bits == 16 else "int32"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._file: Any = None
        try:
            self._file = soundfile.SoundFile(
                self._fd, "w", form.rate, form.channels, subtype, format=container, closefd=False
            )
        except soundfile.LibsndfileError as error:
            self.abandon()
            raise OSError(f"libsndfile does not begin {path.name}: {error}") from error

    def write(self, data: bytes) -> None:
        try:
            self._file.buffer_write(data, self._dtype)
        except (AssertionError, RuntimeError) as error:  # both are its ways to say that it wrote less
            self._raise_what_the_disk_says()
            raise OSError(f"libsndfile wrote less than it was given: {error}") from error

    def _raise_what_the_disk_says(self) -> None:
        """The cause, which libsndfile keeps to itself: another write fails alike. Its trace is mended."""
        os.pwrite(self._fd, bytes(65_536), os.fstat(self._fd).st_size)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        file, self._file = self._file, None
        try:
            file.close()
        except RuntimeError as error:
            raise OSError(f"libsndfile does not finish the file: {error}") from error
        self.sync()
        self.abandon()

    def abandon(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(RuntimeError):  # a full disk: what is there is mended from its bytes
                file.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def load() -> Any:
    """The `soundfile` module. Raises ConfigError when it is not there."""
    try:
        import soundfile  # noqa: PLC0415  (who records WAV does not need it)
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"format flac and opus need libsndfile, which does not load ({error})",
            hint="Install it: pip install 'pinna[recorder]', or record wav",
            permanent=True,
        ) from error
    return soundfile
