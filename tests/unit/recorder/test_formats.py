"""Segment files: what goes in comes out, and what a power cut leaves is mended."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.ramps import PERIOD, ramp, values

from pinna.recorder import formats
from pinna.recorder.formats import Form, wav

FORMS = [
    Form("wav", 48_000, 1, 16),
    Form("wav", 44_100, 3, 24),
    Form("flac", 48_000, 2, 16),
    Form("flac", 16_000, 1, 24),
]
OPUS = Form("opus", 48_000, 1, 16)


def name(form: Form) -> str:
    return f"{form.format}-{form.channels}x{form.bits}"


def record(path: Path, form: Form, samples: int, *, finish: bool = True) -> None:
    """In pieces of odd lengths, as they come from a pipe."""
    file = formats.create(path, form)
    done, piece = 0, 1
    while done < samples:
        count = min(piece, samples - done)
        file.write(ramp(done, count, form))
        done, piece = done + count, piece % 5000 + 371
    if finish:
        file.close()
    else:
        file.sync()
        file.abandon()


@pytest.mark.parametrize("form", FORMS, ids=name)
@pytest.mark.parametrize("samples", [1, 4095, 4097, 300_001])
def test_every_sample_comes_back_through_another_reader(tmp_path: Path, form: Form, samples: int):
    path = tmp_path / "a"
    record(path, form, samples)
    assert np.array_equal(values(path), np.arange(samples) % PERIOD)
    assert formats.content(path, form).samples == samples
    assert formats.content(path, form).end in (path.stat().st_size, path.stat().st_size - 1)  # RIFF's padding


@pytest.mark.parametrize("form", [*FORMS, OPUS], ids=name)
def test_nothing_is_ever_written_over(tmp_path: Path, form: Form):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        formats.create(tmp_path / "a", form)
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("form", FORMS, ids=name)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), junk=st.binary(max_size=40))
def test_cut_anywhere_what_was_whole_is_kept_and_plays(tmp_path: Path, form: Form, cut: float, junk: bytes):
    path, samples = tmp_path / "a", 300_000
    if not (tmp_path / "whole").exists():
        record(tmp_path / "whole", form, samples)
    whole = (tmp_path / "whole").read_bytes()
    head = len(wav.header(form, 0)) if form.format == "wav" else 0
    length = head + int(cut * (len(whole) - head))
    path.write_bytes(whole[:length] + (junk if form.format == "flac" else b""))
    before = path.read_bytes()

    found = formats.mend(path, form)

    assert path.read_bytes()[: found.end][104:] == before[: found.end][104:]  # behind the header, as it was
    if found.samples:
        assert np.array_equal(values(path), np.arange(found.samples) % PERIOD)
    fair = (length - head) / len(whole) * samples
    frame = 1 if form.format == "wav" else 4096
    assert found.samples >= min(samples, fair * 0.9) - 2 * frame  # FLAC's rate varies a little
    assert formats.content(path, form).samples == found.samples


def test_silence_makes_flac_frames_of_a_dozen_bytes_and_they_count(tmp_path: Path):
    form, path = Form("flac", 48_000, 1, 16), tmp_path / "a"
    file = formats.create(path, form)
    file.write(bytes(2 * 700_017))
    file.close()
    assert formats.content(path, form).samples == 700_017


def test_an_opus_file_that_was_cut_off_ends_with_its_last_whole_page(tmp_path: Path):
    path = tmp_path / "a.opus"
    record(path, OPUS, 480_000, finish=False)
    unharmed = path.read_bytes()
    path.write_bytes(unharmed + b"OggS\0\0torn")

    found = formats.mend(path, OPUS)

    assert 480_000 - found.samples <= 48_000 + 960 + 312  # a page of a second, a packet, what is skipped
    assert soundfile.info(path).frames == found.samples
    data = path.read_bytes()
    assert data[: data.rfind(b"OggS")] == unharmed[: data.rfind(b"OggS")]
    assert data[data.rfind(b"OggS") + 5] & 4  # end of stream


def test_an_opus_file_whose_last_page_is_damaged_ends_before_it(tmp_path: Path):
    path = tmp_path / "a.opus"
    record(path, OPUS, 480_000)
    data = bytearray(path.read_bytes())
    data[-20] ^= 0xFF
    path.write_bytes(data)
    found = formats.mend(path, OPUS)
    assert found.end == data.rfind(b"OggS")
    assert soundfile.info(path).frames == found.samples > 400_000


def test_wav_beyond_four_gigabytes_is_rf64_with_true_lengths(tmp_path: Path):
    form, path = Form("wav", 48_000, 2, 16), tmp_path / "a.wav"
    record(path, form, 10, finish=False)
    samples = (5 << 30) // form.raw_bytes
    with path.open("r+b") as file:  # sparse: nobody has the time to write it
        file.truncate(len(wav.header(form, 0)) + samples * form.raw_bytes)
        file.seek(-form.raw_bytes, 2)
        file.write(struct.pack("<hh", 123, -123))
    assert formats.mend(path, form).samples == samples
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.frames) == ("RF64", samples)
        file.seek(samples - 1)
        assert file.read(1, dtype="int16").tolist() == [[123, -123]]


def test_the_header_of_a_growing_wav_tells_its_length_as_of_the_last_sync(tmp_path: Path):
    form, path = Form("wav", 48_000, 1, 16), tmp_path / "a.wav"
    file = formats.create(path, form)
    file.write(ramp(0, 48_000, form))
    file.sync()
    assert soundfile.info(path).frames == 48_000
    file.close()


@pytest.mark.parametrize("form", [*FORMS, OPUS], ids=name)
@pytest.mark.parametrize("left", [b"", b"RI", b"fLaC\0\0"])
def test_what_holds_no_sample_is_said_to_hold_none(tmp_path: Path, form: Form, left: bytes):
    (tmp_path / "a").write_bytes(left)
    assert formats.content(tmp_path / "a", form).samples == 0
