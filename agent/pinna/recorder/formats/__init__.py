"""Segment files: making them, telling what they really hold, mending them."""

from __future__ import annotations

from pathlib import Path

from pinna.recorder.formats import flac, mpeg, ogg, raw, wav
from pinna.recorder.formats.form import Content, Form, SegmentFile

__all__ = ["Content", "Form", "SegmentFile", "check", "content", "create", "head", "mend"]

_STREAMS = frozenset({"mp3", "aac", "ogg-opus", "ogg-vorbis", "ogg-flac"})


def create(path: Path, form: Form, head: bytes = b"") -> SegmentFile:
    """A new file; raises FileExistsError rather than touch one, OSError, or ConfigError (no libsndfile)."""
    if form.format in _STREAMS:
        return raw.RawFile(path, head)
    if form.format == "wav":
        return wav.WavFile(path, form)
    from pinna.recorder.formats.sndfile import SndFile  # noqa: PLC0415  (libsndfile, which WAV does without)

    return SndFile(path, form)


def check(form: Form) -> None:
    """Raises ConfigError when files of that form cannot be made here."""
    if form.format in ("flac", "opus"):
        from pinna.recorder.formats import sndfile  # noqa: PLC0415  (as above)

        sndfile.load()


def content(path: Path, form: Form) -> Content:
    """What whole samples a file holds, finished or not, without believing its header. Raises OSError."""
    if form.format == "wav":
        return wav.content(path, form)
    if form.format in _STREAMS:
        streamed = form.format.startswith("ogg-")
        return ogg.stream_content(path, form.granule) if streamed else mpeg.content(path)
    return flac.content(path) if form.format == "flac" else ogg.content(path, form.rate)


def head(path: Path, form: Form, samples: int) -> bytes:
    """The first bytes that a growing file would have if it ended after so many; empty: those it has."""
    if form.format == "wav":
        return wav.header(form, samples)
    return flac.head(path, samples) if form.format == "flac" else b""


def mend(path: Path, form: Form) -> Content:
    """Make a file that was cut off playable: true header, no torn end; the audio before it is not touched."""
    found = content(path, form)
    if form.format == "wav":
        wav.mend(path, form, found)
    elif form.format in _STREAMS:
        raw.mend(path, found)
    elif found.samples:
        (flac if form.format == "flac" else ogg).mend(path, found)
    return found
