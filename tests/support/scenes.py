"""Synthetic echo scenes and their scores: the same scene, sample for sample, for the same `Scene`.

A scene is what a duplex callback sees: a far end (played) and a near end (captured) of equal length,
48 kHz. The near end is

    echo  = room(loudspeaker(far)) read at the position n (1 + drift) - delay - slips, at `echo_db`
    near  = room(talker) at `near_db`
    noise = white, at `noise_db`

Levels are dB of full scale, RMS over the active 20 ms blocks. The timeline is in fractions of the length:
the far end speaks in [`far_from`, 5/6), the near end in [5/12, 2/3) (double talk) and [5/6, 1) (alone), and
in [0, `far_from`) too when `near_first`. Voices are espeak-ng's and flite's, ten far and six near, cached as
files in the user's cache directory. Rooms follow the image method (Allen and Berkley, JASA 65, 1979).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pystoi import stoi
from scipy import linalg, signal

RATE = 48_000
FRAME = 960

Signal = NDArray[np.float64]
Mask = NDArray[np.bool_]

FAR_VOICES = (
    ("espeak-ng", "en-us"),
    ("espeak-ng", "en-gb+f2"),
    ("espeak-ng", "en-gb-scotland+m3"),
    ("espeak-ng", "en-us+f4"),
    ("espeak-ng", "en-gb-x-rp+m7"),
    ("espeak-ng", "en-029+f1"),
    ("espeak-ng", "de+m2"),
    ("flite", "slt"),
    ("flite", "awb"),
    ("flite", "kal16"),
)
NEAR_VOICES = (
    ("espeak-ng", "en-gb+m5"),
    ("espeak-ng", "en-us+f3"),
    ("espeak-ng", "en-gb-x-gbclan+m1"),
    ("espeak-ng", "fr+f5"),
    ("flite", "rms"),
    ("flite", "slt"),
)
TEXTS = (
    "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. "
    "It is easy to tell the depth of a well. These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls. The juice of lemons makes fine punch. "
    "The box was thrown beside the parked truck. The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us. A large size in stockings is hard to sell. "
    "The boy was there when the sun rose. A rod is used to catch pink salmon.",
    "The source of the huge river is the clear spring. Kick the ball straight and follow through. "
    "Help the woman get back to her feet. A pot of tea helps to pass the evening.",
)


@dataclass(frozen=True)
class Scene:
    """What happens. `slips`: (fraction of the length, ms of added delay)."""

    seconds: float = 72.0
    seed: int = 0
    delay_ms: float = 40.0
    drift_ppm: float = 0.0
    slips: tuple[tuple[float, float], ...] = ()
    rt60: float = 0.3
    echo_db: float = -22.0
    near_db: float = -28.0
    noise_db: float | None = -58.0
    loudspeaker: Literal["clean", "harsh"] = "clean"
    far: Literal["speech", "music"] = "speech"
    far_from: float = 0.0
    near_first: bool = False
    double_talk: bool = True
    far_steps_db: tuple[tuple[float, float], ...] = ()  # (fraction, gain of the far end from there on)
    name: str = ""


@dataclass(frozen=True)
class Take:
    """A rendered scene: `near` and `far`; `talker` and `echo` are clean parts of `near`, full scale 1.0."""

    scene: Scene
    near: NDArray[np.int16]
    far: NDArray[np.int16]
    talker: Signal
    echo: Signal

    def frames(self) -> Iterator[tuple[NDArray[np.int16], NDArray[np.int16]]]:
        for start in range(0, self.near.size - FRAME + 1, FRAME):
            yield self.near[start : start + FRAME], self.far[start : start + FRAME]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "pinna-tests" / "voices"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@lru_cache(maxsize=128)
def say(program: str, voice: str, text: str) -> Signal:
    """Speech at 48 kHz, RMS 1 over its active blocks."""
    key = hashlib.sha256(f"{program}|{voice}|{text}".encode()).hexdigest()[:16]
    path = _cache() / f"{program}-{voice}-{key}.wav"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as folder:
            new = Path(folder) / "voice.wav"
            if program == "flite":
                command = ["flite", "-voice", voice, "-t", text, "-o", str(new)]
            else:
                command = ["espeak-ng", "-v", voice, "-s", "165", "-w", str(new), text]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            new.replace(path)
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
    speech = signal.resample_poly(pcm, RATE // 50, rate // 50)
    return speech / active_rms(speech)


def active(x: Signal, below_db: float = 30.0) -> Mask:
    """Per sample: in a 20 ms block whose RMS is within `below_db` of the loudest block's."""
    blocks = x[: x.size // FRAME * FRAME].reshape(-1, FRAME)
    level = np.sqrt(np.mean(blocks**2, axis=1))
    on = level > max(level.max(initial=0.0) * 10 ** (-below_db / 20), 1e-9)
    return np.pad(np.repeat(on, FRAME), (0, x.size - blocks.size))


def active_rms(x: Signal) -> float:
    mask = active(x)
    return float(np.sqrt(np.mean(x[mask] ** 2))) if mask.any() else 1.0


def speech(samples: int, voices: tuple[tuple[str, str], ...], rng: np.random.Generator) -> Signal:
    """Turns of changing voices with pauses of 0.2 to 0.7 s, of one level."""
    parts: list[Signal] = []
    length = 0
    order = rng.permutation(len(voices))
    turn = 0
    while length < samples:
        program, voice = voices[order[turn % len(voices)]]
        text = TEXTS[int(rng.integers(len(TEXTS)))]
        part = say(program, voice, text)
        part = part[: int(RATE * rng.uniform(3.0, 8.0))]
        on = np.flatnonzero(active(part))
        part = part[on[0] : on[-1]]
        gap = np.zeros(int(RATE * rng.uniform(0.2, 0.7)))
        parts += [part, gap]
        length += part.size + gap.size
        turn += 1
    return np.concatenate(parts)[:samples]


def music(samples: int, rng: np.random.Generator) -> Signal:
    """Chords of decaying harmonic notes and a noisy beat, RMS about 1."""
    out = np.zeros(samples)
    beat = int(RATE * rng.uniform(0.35, 0.6))
    decay = np.exp(-np.arange(2 * beat) / (0.4 * RATE))
    time = np.arange(2 * beat) / RATE
    for start in range(0, samples, beat):
        bar = np.zeros(2 * beat)
        for note in rng.choice([0, 3, 5, 7, 10, 12, 15, 19], 3, replace=False):
            pitch = 110.0 * 2 ** (note / 12)
            for harmonic in range(1, 12):
                bar += np.sin(2 * np.pi * pitch * harmonic * time + rng.uniform(0, 6.28)) / harmonic
        bar *= decay
        hit = rng.normal(size=4800) * np.exp(-np.arange(4800) / 900)
        bar[:4800] += 1.5 * hit
        end = min(start + bar.size, samples)
        out[start:end] += bar[: end - start]
    return out / np.sqrt(np.mean(out**2))


@lru_cache(maxsize=64)
def room(rt60: float, distance: float, seed: int) -> Signal:
    """Impulse response at 48 kHz between two points `distance` m apart."""
    rng = np.random.default_rng([seed, 77])
    size = np.array([rng.uniform(3.2, 5.5), rng.uniform(2.6, 4.2), rng.uniform(2.3, 2.8)])
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    absorption = 1 - np.exp(-0.161 * size.prod() / (surface * rt60))  # Eyring
    reflection = np.sqrt(1 - absorption)
    microphone = size * rng.uniform(0.3, 0.7, 3)
    direction = rng.normal(size=3)
    source = microphone + distance * direction / np.linalg.norm(direction)
    source = np.clip(source, 0.05, size - 0.05)
    length = int(RATE * rt60 * 1.1)
    reach = 343.0 * length / RATE
    counts = [np.arange(-int(reach / (2 * s)) - 1, int(reach / (2 * s)) + 2) for s in size]
    response = np.zeros(length + 64)
    for parity in np.ndindex(2, 2, 2):
        axes = [
            (1 - 2 * p) * source[i] + 2 * counts[i] * size[i] - microphone[i] for i, p in enumerate(parity)
        ]
        bounces = [np.abs(counts[i] - p) + np.abs(counts[i]) for i, p in enumerate(parity)]
        far_away = np.sqrt(
            axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2
        )
        times = bounces[0][:, None, None] + bounces[1][None, :, None] + bounces[2][None, None, :]
        at = far_away * RATE / 343.0
        keep = at < length
        position, gain = at[keep], reflection ** times[keep] / (4 * np.pi * far_away[keep])
        whole = position.astype(int)
        part = position - whole
        np.add.at(response, whole, gain * (1 - part))
        np.add.at(response, whole + 1, gain * part)
    taps = signal.butter(2, 60, "highpass", fs=RATE, output="sos")
    return np.asarray(signal.sosfilt(taps, response))


def harsh(x: Signal) -> Signal:
    """A small loudspeaker driven hard: soft clipping and an even-order term, and no bass."""
    level = 2.5 * active_rms(x)
    y = np.tanh(x / level) + 0.08 * (x / level) ** 2 / (1 + (x / level) ** 2)
    return np.asarray(signal.sosfilt(signal.butter(2, 200, "highpass", fs=RATE, output="sos"), y))


def read_at(x: Signal, positions: Signal, taps: int = 32) -> Signal:
    """`x` at fractional positions, by a Kaiser-windowed sinc; zero outside."""
    half = taps // 2
    padded = np.pad(x, (half, half + 1))
    out = np.zeros(positions.size)
    offsets = np.arange(-half + 1, half + 1)
    for start in range(0, positions.size, RATE):
        at = positions[start : start + RATE]
        whole = np.floor(at).astype(int)
        inside = (whole >= 0) & (whole < x.size)
        distance = offsets[None, :] - (at - whole)[inside, None]
        window = np.i0(9.0 * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, 1))) / np.i0(9.0)
        values = padded[whole[inside, None] + offsets[None, :] + half]
        out[start : start + RATE][inside] = np.einsum("ij,ij->i", values, np.sinc(distance) * window)
    return out


def render(scene: Scene) -> Take:
    samples = int(scene.seconds * RATE) // FRAME * FRAME
    rng = np.random.default_rng([scene.seed, 1])
    at = np.arange(samples)
    fraction = at / samples

    far = music(samples, rng) if scene.far == "music" else speech(samples, FAR_VOICES, rng)
    start = int(scene.far_from * samples)
    far = np.concatenate([np.zeros(start), far])[:samples]
    far[fraction >= 5 / 6] = 0
    for where, gain_db in scene.far_steps_db:
        far[fraction >= where] *= 10 ** (gain_db / 20)
    far_pcm = np.round(np.clip(far * 10 ** (-20 / 20), -1, 1) * 32767).astype(np.int16)
    far = far_pcm / 32768

    driven = harsh(far) if scene.loudspeaker == "harsh" else far
    echo = signal.fftconvolve(driven, room(scene.rt60, 0.1, scene.seed))[:samples]
    shift = np.full(samples, scene.delay_ms * RATE / 1000)
    for where, slip_ms in scene.slips:
        shift[fraction >= where] += slip_ms * RATE / 1000
    if scene.drift_ppm or scene.slips or not float(scene.delay_ms * RATE / 1000).is_integer():
        echo = read_at(echo, at * (1 + scene.drift_ppm * 1e-6) - shift)
    else:
        whole = int(shift[0])
        echo = np.concatenate([np.zeros(whole), echo])[:samples]
    echo *= 10 ** (scene.echo_db / 20) / max(active_rms(echo), 1e-9)

    talks = (fraction >= 5 / 6) | ((fraction >= 5 / 12) & (fraction < 2 / 3) & scene.double_talk)
    if scene.near_first:
        talks |= fraction < scene.far_from
    talker = speech(samples, NEAR_VOICES, rng) * talks
    talker = signal.fftconvolve(talker, room(scene.rt60, 0.8, scene.seed + 1000))[:samples]
    talker *= 10 ** (scene.near_db / 20) / active_rms(talker)

    near = echo + talker
    if scene.noise_db is not None:
        near = near + rng.normal(size=samples) * 10 ** (scene.noise_db / 20)
    near_pcm = np.round(np.clip(near, -1, 1) * 32767).astype(np.int16)
    return Take(scene, near_pcm, far_pcm, talker, echo)


def late_by(reference: Signal, out: Signal, at_most: int = RATE // 20) -> int:
    """Samples by which `out` lags `reference`, 0 to `at_most`: the peak of their cross-correlation."""
    size = 1 << int(np.ceil(np.log2(reference.size + out.size)))
    cross = np.fft.irfft(np.fft.rfft(out, size) * np.conj(np.fft.rfft(reference, size)), size)
    return int(np.argmax(cross[: at_most + 1]))


def sdr(reference: Signal, out: Signal) -> float:
    """Signal to distortion, dB: `out` against its projection on `reference` (one gain, delay undone)."""
    gain = float(reference @ out) / max(float(reference @ reference), 1e-12)
    wanted = gain * reference
    return float(10 * np.log10(max(wanted @ wanted, 1e-12) / max(float(np.sum((out - wanted) ** 2)), 1e-12)))


def filtered_sdr(reference: Signal, out: Signal, taps: int = 512) -> float:
    """Like `sdr`, against the best causal filter of the reference (BSS Eval): a fixed filter is free.

    At 16 kHz. Speex's notch, which turns the phase of low voices, is free here and costs 10 dB there.
    """
    x, y = signal.resample_poly(reference, 1, 3), signal.resample_poly(out, 1, 3)
    size = 1 << int(np.ceil(np.log2(x.size + y.size)))
    spectrum = np.fft.rfft(x, size)
    auto = np.fft.irfft(np.abs(spectrum) ** 2, size)[:taps]
    auto[0] *= 1 + 1e-6
    cross = np.fft.irfft(np.conj(spectrum) * np.fft.rfft(y, size), size)[:taps]
    wanted = np.convolve(x, linalg.solve_toeplitz(auto, cross))[: y.size]
    return float(10 * np.log10(max(wanted @ wanted, 1e-12) / max(float(np.sum((y - wanted) ** 2)), 1e-12)))


def erle(near: Signal, out: Signal) -> float:
    """Echo return loss enhancement, dB: power in over power out."""
    return float(10 * np.log10(max(float(near @ near), 1e-12) / max(float(out @ out), 1e-12)))


@dataclass(frozen=True)
class Score:
    """What an engine did with a scene.

    `erle` over the active echo in [1/4, 5/12) and [17/24, 5/6); `sdr` (one gain), `filtered_sdr` and `stoi`
    over the double talk in [5/12, 2/3); `near_sdr` (one gain) over the near end alone in [41/48, 1);
    `ten_db_s`: seconds from the first echo to the first 0.3 s of it with 10 dB of ERLE; `lag_ms`: the
    engine's latency, undone before all the others.
    """

    erle: float
    sdr: float
    filtered_sdr: float
    stoi: float
    near_sdr: float
    ten_db_s: float
    lag_ms: float


def score(take: Take, out: NDArray[np.int16]) -> Score:
    y, x = out / 32768, take.near / 32768
    n = x.size
    # Where the near end talks alone nothing but the engine's own latency is between reference and output.
    alone = slice(n * 41 // 48, n)
    lag = late_by(take.talker[alone], y[alone])
    y = np.concatenate([y[lag:], np.zeros(lag)])
    fraction = np.arange(n) / n
    echo_on = active(take.echo)
    settled = ((fraction >= 1 / 4) & (fraction < 5 / 12)) | (
        (fraction >= 17 / 24) & (fraction < 5 / 6 - 0.005)
    )
    alone_echo = settled & echo_on
    double = slice(n * 5 // 12, n * 2 // 3)
    quiet = slice(n * 41 // 48, n - RATE // 10)
    clean = signal.resample_poly(take.talker[double], 1, 3)
    heard = signal.resample_poly(y[double], 1, 3)
    has_double = bool(np.any(take.talker[double]))
    return Score(
        erle=erle(x[alone_echo], y[alone_echo]),
        sdr=sdr(take.talker[double], y[double]) if has_double else np.nan,
        filtered_sdr=filtered_sdr(take.talker[double], y[double]) if has_double else np.nan,
        stoi=float(stoi(clean, heard, 16_000)) if has_double else np.nan,
        near_sdr=sdr(take.talker[quiet], y[quiet]),
        ten_db_s=reaches(take, y, 0),
        lag_ms=lag / RATE * 1000,
    )


def reaches(take: Take, aligned_out: Signal, start: int, db: float = 10.0) -> float:
    """Seconds from the first echo after sample `start` to `db` of ERLE over 0.3 s of it; or infinity."""
    x = take.near / 32768
    on = np.flatnonzero(active(take.echo)[start:]) + start
    if on.size == 0:
        return float("inf")
    width = int(0.3 * RATE)
    power_in = np.cumsum(x[on] ** 2)
    power_out = np.cumsum(aligned_out[on] ** 2)
    ratio = (power_in[width:] - power_in[:-width]) / np.maximum(power_out[width:] - power_out[:-width], 1e-12)
    good = np.flatnonzero(ratio >= 10 ** (db / 10))
    return float((on[good[0] + width] - on[0]) / RATE) if good.size else float("inf")
