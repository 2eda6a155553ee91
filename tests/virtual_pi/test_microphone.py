"""What a Pi's kernel makes of the virtual SH-04: identity, recording, playback, sharing, the room."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.virtual_pi.acoustics import Room, clip, read_wav, tone, write_wav
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.plug import PATIENT, attach, wait_gone
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity

DSNOOP = """
pcm.snoop {
    type dsnoop
    ipc_key 5978293
    slave { pcm "hw:SH04" rate 48000 channels 1 period_size 960 buffer_size 9600 }
}
"""


def frequency(signal: NDArray[Any], rate: int) -> float:
    """Of a sine, in Hz: the slope of its analytic signal's phase, by the peak of a windowed spectrum."""
    windowed = signal * np.hanning(len(signal))
    magnitude = np.abs(np.fft.rfft(windowed))
    peak = int(magnitude[1:-1].argmax()) + 1
    left, middle, right = np.log(magnitude[peak - 1 : peak + 2])
    return float((peak + 0.5 * (left - right) / (left - 2 * middle + right)) * rate / len(signal))


def glitches(signal: NDArray[Any], hertz: float, rate: int, *, allowed: float = 0.002) -> int:
    """Samples where a sine does not continue itself: x[n+1] = 2 cos(w) x[n] - x[n-1], but for rounding."""
    error = signal[2:] - 2 * np.cos(2 * np.pi * hertz / rate) * signal[1:-1] + signal[:-2]
    return int(np.count_nonzero(np.abs(error) > allowed))


def unplug(pi: Machine, server: UsbipServer, busid: str, card: int) -> None:
    server.unplug(busid)
    wait_gone(pi, card)


def test_arecord_lists_it(pi: Machine, server: UsbipServer) -> None:
    busid = server.plug(Sh04())
    _, card = attach(pi, server, busid)
    listed = pi.run("arecord -l").stdout
    assert "SH04 [SH-04]" in listed
    assert "USB Audio" in listed
    unplug(pi, server, busid, card)


def test_tone_is_the_tone_and_has_no_seam(pi: Machine, server: UsbipServer, tmp_path: Path) -> None:
    busid = server.plug(Sh04(source=tone(440.0)))
    _, card = attach(pi, server, busid)
    pi.run(f"arecord -q -D hw:SH04 -f S16_LE -r 48000 -c 1 -d 10 {PATIENT} /tmp/tone.wav")
    signal, rate = read_wav(pi.get("/tmp/tone.wav", tmp_path / "tone.wav"))
    assert (len(signal), rate) == (480_000, 48_000)
    assert frequency(signal[:, 0], rate) == pytest.approx(440.0, rel=0.005)
    assert glitches(signal[:, 0], 440.0, rate) == 0
    unplug(pi, server, busid, card)


def test_two_programs_share_it_at_two_rates(pi: Machine, server: UsbipServer, tmp_path: Path) -> None:
    busid = server.plug(Sh04(source=tone(440.0)))
    _, card = attach(pi, server, busid)
    pi.run("cat > /root/.asoundrc", stdin=DSNOOP)
    record = "arecord -q -D plug:snoop -f S16_LE -c 1 -d 4"
    pi.run(f"{record} -r 48000 /tmp/a.wav & {record} -r 16000 /tmp/b.wav && wait $!")
    for name, wanted in (("a", 48_000), ("b", 16_000)):
        signal, rate = read_wav(pi.get(f"/tmp/{name}.wav", tmp_path / f"{name}.wav"))
        assert (len(signal), rate) == (4 * wanted, wanted)
        assert frequency(signal[:, 0], rate) == pytest.approx(440.0, rel=0.005)
    pi.run("rm /root/.asoundrc")
    unplug(pi, server, busid, card)


def test_stereo_at_44100_and_playback(pi: Machine, server: UsbipServer, tmp_path: Path) -> None:
    rates = (44_100,)
    device = Sh04(
        Identity(microphone_channels=2, microphone_rates=rates, speaker_rates=rates),
        source=tone(440.0, 1000.0),
    )
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    pi.run(f"arecord -q -D hw:SH04 -f S16_LE -r 44100 -c 2 -d 4 {PATIENT} /tmp/stereo.wav")
    signal, rate = read_wav(pi.get("/tmp/stereo.wav", tmp_path / "stereo.wav"))
    assert rate == 44_100
    for channel, hertz in enumerate((440.0, 1000.0)):
        assert frequency(signal[:, channel], rate) == pytest.approx(hertz, rel=0.005)
        assert glitches(signal[:, channel], hertz, rate) == 0
    write_wav(tmp_path / "play.wav", tone(700.0, 1300.0)(3 * 44_100, 44_100), 44_100)
    pi.put(tmp_path / "play.wav", "/tmp/play.wav")
    pi.run("aplay -q -D hw:SH04 --buffer-size=132300 /tmp/play.wav")  # all of it: it cannot run dry
    spoken = device.spoken() / np.float32(32768)
    sounding = spoken[np.flatnonzero(np.abs(spoken).max(axis=1))[0] :][: 2 * 44_100]
    assert len(sounding) == 2 * 44_100
    for channel, hertz in enumerate((700.0, 1300.0)):
        assert frequency(sounding[:, channel], 44_100) == pytest.approx(hertz, rel=0.005)
    unplug(pi, server, busid, card)


def test_room_brings_the_speaker_to_the_microphone(pi: Machine, server: UsbipServer, tmp_path: Path) -> None:
    device = Sh04(room=Room(delay_ms=37.0, gain=0.5))
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    noise = np.random.default_rng(3).normal(0, 0.1, (2 * 48_000, 1)).astype(np.float32)
    write_wav(tmp_path / "noise.wav", np.repeat(noise, 2, axis=1), 48_000)
    pi.put(tmp_path / "noise.wav", "/tmp/noise.wav")
    pi.run(
        f"arecord -q -D hw:SH04 -f S16_LE -r 48000 -c 1 -d 6 {PATIENT} /tmp/echo.wav & "
        "sleep 1; aplay -q -D hw:SH04 --buffer-size=96000 /tmp/noise.wav && wait"
    )
    echo, _ = read_wav(pi.get("/tmp/echo.wav", tmp_path / "echo.wav"))
    spoken = device.spoken()[:, 0] / np.float32(32768)
    heard = device.heard()[:, 0] / np.float32(32768)
    start = int(np.flatnonzero(spoken)[0]) + 24_000
    arrived = lag(echo[:, 0], spoken[start : start + 24_000])  # this half second, in the guest's recording
    left = arrived - lag(echo[:, 0], heard)  # the same, in what the microphone delivered
    delay = bus_time(device.delivered, left) - bus_time(device.played, start)
    assert delay == pytest.approx(0.037, abs=0.002)
    unplug(pi, server, busid, card)


def bus_time(blocks: Iterable[tuple[float, NDArray[np.int16]]], index: int) -> float:
    """When the sample `index` of all that went through passed the device."""
    for at, block in blocks:
        if index < len(block):
            return at + index / 48_000
        index -= len(block)
    raise IndexError("the stream is shorter")


def lag(signal: NDArray[Any], reference: NDArray[Any]) -> int:
    """Samples by which `reference` has to be shifted to lie over `signal`, by cross-correlation."""
    size = 1 << (len(signal) + len(reference)).bit_length()
    product = np.fft.irfft(np.fft.rfft(signal, size) * np.conj(np.fft.rfft(reference, size)), size)
    peak = int(product.argmax())
    return peak if peak < size // 2 else peak - size


def test_two_microphones_keep_apart_by_serial(pi: Machine, server: UsbipServer, tmp_path: Path) -> None:
    found = {}
    for serial, hertz in (("A1", 300.0), ("B2", 900.0)):
        busid = server.plug(Sh04(Identity(serial=serial), source=tone(hertz)))
        _, card = attach(pi, server, busid)
        assert pi.run(f"cat /sys/class/sound/card{card}/device/../serial").stdout.strip() == serial
        found[card] = (busid, hertz)
    for card, (busid, hertz) in found.items():
        pi.run(f"arecord -q -D hw:{card} -f S16_LE -r 48000 -c 1 -d 2 {PATIENT} /tmp/one.wav")
        signal, rate = read_wav(pi.get("/tmp/one.wav", tmp_path / "one.wav"))
        assert frequency(signal[:, 0], rate) == pytest.approx(hertz, rel=0.005)
        unplug(pi, server, busid, card)


def test_mute_and_volume_act_in_the_device(pi: Machine, server: UsbipServer, tmp_path: Path) -> None:
    sound = np.full((48_000, 1), 0.5, np.float32)
    busid = server.plug(Sh04(source=clip(sound, 48_000)))
    _, card = attach(pi, server, busid)

    def level() -> float:
        pi.run(f"arecord -q -D hw:SH04 -f S16_LE -r 48000 -c 1 -d 1 {PATIENT} /tmp/level.wav")
        return float(np.median(read_wav(pi.get("/tmp/level.wav", tmp_path / "level.wav"))[0]))

    pi.run("amixer -q -c SH04 sset Mic cap 60")
    assert level() == pytest.approx(0.5, abs=0.01)
    pi.run("amixer -q -c SH04 sset Mic 54")  # steps of 1 dB
    assert level() == pytest.approx(0.25, abs=0.01)
    pi.run("amixer -q -c SH04 sset Mic nocap")
    assert level() == 0.0
    unplug(pi, server, busid, card)
