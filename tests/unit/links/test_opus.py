from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinna.frame import FRAME_SAMPLES
from pinna.links.opus import Decoder, Encoder, has_fec, packet_samples

SILK_WIDEBAND_20_MS = 9
"""Configuration number: RFC 6716 table 2."""


def voice(frames: int, seed: int = 1) -> np.ndarray:
    """Something a speech codec takes for voice: many harmonics of a gliding pitch, swelling, with noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames * FRAME_SAMPLES) / 48_000
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / 48_000
    sound = sum(np.sin(k * phase) / k for k in range(1, 25)) * (1 + 0.8 * np.sin(2 * np.pi * 3 * t))
    sound = 3000 * sound + 60 * rng.standard_normal(len(t))
    return sound.astype(np.int16).reshape(frames, FRAME_SAMPLES)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Highest correlation of spectra over 20 ms frames: deaf to the codec's delay and phase."""
    spectra = [np.abs(np.fft.rfft(x[: len(x) // 960 * 960].reshape(-1, 960)))[:, :160] for x in (a, b)]
    return float(np.corrcoef(spectra[0].ravel(), spectra[1].ravel())[0, 1])


def test_speech_survives():
    frames = voice(100)
    encoder, decoder = Encoder(32_000), Decoder()
    heard = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames])
    assert likeness(heard, frames.ravel()) > 0.9


def test_packets_are_wideband_mono_20_ms_with_fec():
    encoder = Encoder(32_000)
    packets = [encoder.encode(frame) for frame in voice(100)]
    assert {packet[0] >> 3 for packet in packets[10:]} == {SILK_WIDEBAND_20_MS}
    assert not any(packet[0] & 0b111 for packet in packets)  # mono, one frame
    assert {packet_samples(packet) for packet in packets} == {FRAME_SAMPLES}
    assert sum(map(has_fec, packets)) > 50
    assert np.mean([len(packet) for packet in packets]) * 8 * 50 == pytest.approx(32_000, rel=0.3)


def test_without_fec_there_is_none():
    encoder = Encoder(32_000, fec=False)
    assert not any(has_fec(encoder.encode(frame)) for frame in voice(50))


def test_a_lost_frame_is_had_from_the_next_packet():
    """Closer to the truth than concealment: the second copy is really decoded, and `has_fec` told so."""
    frames = voice(200, seed=4)
    encoder = Encoder(32_000)
    packets = [encoder.encode(frame) for frame in frames]

    def decode(fec: bool) -> np.ndarray:
        decoder, heard = Decoder(), []
        for number, packet in enumerate(packets):
            if number % 5 != 4:
                heard.append(decoder.decode(packet))
            elif fec and number + 1 < len(packets) and has_fec(packets[number + 1]):
                heard.append(decoder.decode(packets[number + 1], fec=True))
            else:
                heard.append(decoder.decode(None))
        return np.concatenate(heard).reshape(-1, FRAME_SAMPLES)[4::5].ravel()

    clean = Decoder()
    whole = np.concatenate([clean.decode(packet) for packet in packets]).reshape(-1, 960)[4::5].ravel()
    assert likeness(decode(True), whole) > likeness(decode(False), whole) + 0.02


def test_concealment_fades():
    encoder, decoder = Encoder(), Decoder()
    for frame in voice(20):
        decoder.decode(encoder.encode(frame))
    energies = [np.sqrt(np.mean(decoder.decode(None).astype(float) ** 2)) for _ in range(10)]
    assert energies[0] > 100
    assert energies[9] < energies[0] / 4


@pytest.mark.parametrize("samples", [np.zeros(959, np.int16), np.zeros((960, 1), np.int16), np.zeros(960)])
def test_what_is_no_frame_is_refused(samples):
    with pytest.raises(ValueError, match="frame"):
        Encoder().encode(samples)


def test_strided_frames_are_encoded_as_they_are():
    stereo = np.repeat(voice(1)[0], 2).reshape(-1, 2)
    assert Encoder().encode(stereo[:, 0]) == Encoder().encode(voice(1)[0])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_noise_for_packets(packet, fec):
    """Whatever bytes come: samples, or ValueError; never more of them than the packet's own header says."""
    decoder = Decoder()
    assert packet_samples(packet) >= 0
    has_fec(packet)
    try:
        samples = decoder.decode(packet, fec=fec)
    except ValueError:
        return
    assert samples.dtype == np.int16
    assert len(samples) == (FRAME_SAMPLES if fec or not packet else packet_samples(packet))


def test_without_the_library_the_error_names_the_cure():
    script = (
        "import ctypes\n"
        "def missing(name): raise OSError(f'{name}: cannot open shared object file')\n"
        "ctypes.CDLL = missing\n"
        "from pinna.errors import PinnaError\n"
        "from pinna.links.opus import Encoder\n"
        "try: Encoder()\n"
        "except PinnaError as error: print(error.permanent, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True the Opus library cannot be loaded (libopus.so.0")
    assert "sudo apt install libopus0" in done.stdout
