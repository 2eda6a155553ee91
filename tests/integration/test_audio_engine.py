"""The engine on cards that are not as it would like them: stereo only, 44.1 kHz only, unplugged and back.

The cards are ALSA PCMs over null sinks of the virtual sound server. What a card cannot do is said where the
`pulse` plugin tells ALSA what it can: a library loaded before it narrows the ranges. (ALSA's own plugins that
fix a rate or a number of channels, put in between, never let PortAudio see a block.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.fakehub import tone
from tests.support.programs import Program, program
from tests.support.waiting import eventually

from pinna.audio import dsp
from pinna.audio.aec.passthrough import Passthrough
from pinna.audio.engine import AudioEngine
from pinna.audio.playback import PlaybackQueue
from pinna.config import AudioConfig
from pinna.demo.sound import VirtualSound
from pinna.errors import DeviceError
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Frame

HEARD_HZ, PLAYED_HZ = 1000, 440
CLEAN_BLOCKS = 100
"""Two seconds in which not a sample is missing. The sound server of a loaded machine stumbles now and then,
so they may be any two seconds; an engine that loses samples never gets there."""

REOPEN_SECONDS = 8.0
"""In place of a minute. The server of a loaded machine may be late from the start, and a stream that is given
up sooner has no two clean seconds."""

RECORD = np.dtype([("sequence", "<i8"), ("samples", "<i2", FRAME_SAMPLES)])

LIMITS = """
#include <dlfcn.h>
#include <stdlib.h>
enum { CHANNELS = 2, RATE = 3 }; /* SND_PCM_IOPLUG_HW_..., alsa/pcm_ioplug.h */
int snd_pcm_ioplug_set_param_minmax(void *io, int what, unsigned least, unsigned most) {
    int (*real)(void *, int, unsigned, unsigned) =
        dlsym(dlopen("libasound.so.2", RTLD_NOW), "snd_pcm_ioplug_set_param_minmax");
    const char *only = what == CHANNELS ? getenv("CARD_CHANNELS") : what == RATE ? getenv("CARD_RATE") : 0;
    if (only) least = most = atoi(only);
    return real(io, what, least, most);
}
"""


@dataclass(frozen=True)
class Card:
    """Microphone and loudspeaker `limited_mic`, `limited_speaker`, which know this and nothing else."""

    channels: int | None = None
    rate: int | None = None

    @property
    def limits(self) -> dict[str, str]:
        wanted = {"CARD_CHANNELS": self.channels, "CARD_RATE": self.rate}
        return {name: str(value) for name, value in wanted.items() if value}

    def plug_in(self, sound: VirtualSound) -> None:
        """Two sinks of the server; a tone sounds in front of the microphone."""
        shape = f"rate={self.rate or SAMPLE_RATE} channels={self.channels or 1} format=s16le"
        for sink in ("limited_mic", "limited_speaker"):
            _pactl(sound, "module-null-sink", f"sink_name={sink}", *shape.split())
        _pactl(sound, "module-sine", "sink=limited_mic", f"frequency={HEARD_HZ}")


STEREO_ONLY, CD_RATE_ONLY = Card(channels=2), Card(rate=44_100)


def _pactl(sound: VirtualSound, *words: str) -> None:
    subprocess.run(["pactl", "load-module", *words], env=sound.environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def limiter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler to make a limited sound card: apt install gcc libc6-dev")
    library = tmp_path_factory.mktemp("limits") / "limits.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"]
    subprocess.run(command, input=LIMITS, text=True, check=True)
    return library


class Listener:
    """What is below in this file, as a program: an engine on the limited card, writing down what it hears."""

    def __init__(self, running: Program, heard: Path) -> None:
        self.program = running
        self._heard = heard

    def frames(self) -> NDArray[np.void]:
        raw = self._heard.read_bytes() if self._heard.exists() else b""
        return np.frombuffer(raw[: len(raw) // RECORD.itemsize * RECORD.itemsize], RECORD)

    def hears(self, since: int = 0) -> bool:
        """Two clean seconds among the frames from number `since`, all of them in sequence."""
        frames = self.frames()[since:]
        seams = np.flatnonzero(np.diff(frames["sequence"]) != 1) + 1
        return any(
            clean(run.reshape(-1, 1), SAMPLE_RATE, HEARD_HZ) for run in np.split(frames["samples"], seams)
        )

    def streams(self) -> list[int]:
        """The rate of each stream opened."""
        return [entry["rate"] for entry in self.program.events("stream")]


@contextlib.contextmanager
def listening(
    sound: VirtualSound, card: Card, limiter: Path, folder: Path, reopen_seconds: float = dsp.REOPEN_SECONDS
) -> Iterator[Listener]:
    configuration = sound.folder / "asound.conf"
    with configuration.open("a") as out:
        for pcm, device in (
            ("limited_mic", "limited_mic.monitor"),
            ("limited_speaker", "limited_speaker"),
        ):
            out.write(f'pcm.{pcm} {{ type pulse server "{sound.server}" device "{device}" }}\n')
    card.plug_in(sound)
    # libpulse deadlocks when the server that shares memory with it is killed while sound comes in.
    (folder / "client.conf").write_text("enable-shm = no\n")
    environment = sound.environment | card.limits
    environment |= {"LD_PRELOAD": str(limiter), "PULSE_CLIENTCONFIG": str(folder / "client.conf")}
    _assert_limited(card, environment)
    heard = folder / "heard"
    arguments = ["tests.integration.test_audio_engine", str(heard), str(reopen_seconds)]
    with program(arguments, environment, folder, "listener") as running:
        yield Listener(running, heard)


def _assert_limited(card: Card, environment: dict[str, str]) -> None:
    """That ALSA itself refuses what the card is said not to know."""
    shape = ["-c", "1" if card.channels else "2", "-r", str(SAMPLE_RATE), "-f", "S16_LE", "-s", "960"]
    command = ["arecord", "-D", "limited_mic", *shape, os.devnull]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    if card.channels:
        assert "Channels count non available" in done.stderr, done.stderr
    else:  # arecord takes the nearest rate, and says so
        assert "rate is not accurate" in done.stderr.lower(), done.stderr


def clean(samples: NDArray[np.int16], rate: int, hertz: float) -> bool:
    """Whether `samples`, shape (n, channels), hold two seconds of this tone alone, without a seam.

    Block by block of 20 ms and in each channel: there, alone, and going on where it left off.
    """
    block = rate // 50
    count = len(samples) // block
    if count < CLEAN_BLOCKS:
        return False
    wave = samples[: count * block].astype(np.float64).reshape(count, block, -1)
    time = np.arange(count * block).reshape(count, block, 1) / rate
    phasor = 2 * (wave * np.exp(-2j * np.pi * hertz * time)).mean(axis=1)
    rest = (wave**2).mean(axis=1) - abs(phasor) ** 2 / 2
    good = (abs(phasor) > 1000) & (rest < 0.01 * abs(phasor) ** 2)
    good[1:] &= abs(np.angle(phasor[1:] * phasor[:-1].conj())) < 0.05  # under half a sample in 960
    run = best = 0
    for each in good.all(axis=1):
        run = run + 1 if each else 0
        best = max(best, run)
    return best >= CLEAN_BLOCKS


@contextlib.contextmanager
def recording(sound: VirtualSound, card: Card, folder: Path) -> Iterator[Path]:
    """What comes out of the loudspeaker, in the loudspeaker's own format."""
    path = folder / "played"
    shape = [f"--rate={card.rate or SAMPLE_RATE}", f"--channels={card.channels or 1}", "--format=s16le"]
    with path.open("wb") as out:
        process = subprocess.Popen(
            ["parec", "--raw", *shape, "--latency-msec=20", "-d", "limited_speaker.monitor"],
            env=sound.environment,
            stdout=out,
        )
        try:
            yield path
        finally:
            process.terminate()
            process.wait(10)


@pytest.mark.parametrize("card", [STEREO_ONLY, CD_RATE_ONLY], ids=["stereo only", "44.1 kHz only"])
def test_a_limited_card_hears_and_plays_without_a_gap(
    fragile_sound: VirtualSound, limiter: Path, tmp_path: Path, card: Card
) -> None:
    with (
        listening(fragile_sound, card, limiter, tmp_path) as ear,
        recording(fragile_sound, card, tmp_path) as played,
    ):
        eventually(ear.hears, 40, what="two seconds of the tone, without a gap")

        def plays() -> bool:
            raw = np.fromfile(played, "<i2")
            channels = card.channels or 1
            return clean(
                raw[: len(raw) // channels * channels].reshape(-1, channels),
                card.rate or SAMPLE_RATE,
                PLAYED_HZ,
            )

        eventually(plays, 40, what="two seconds out of each loudspeaker, without a gap")
        assert ear.streams() == [card.rate or SAMPLE_RATE]
        assert ear.program.stop() == 0, ear.program.said()


def test_a_limited_card_unplugged_and_back(
    fragile_sound: VirtualSound, limiter: Path, tmp_path: Path
) -> None:
    with listening(fragile_sound, CD_RATE_ONLY, limiter, tmp_path) as ear:
        eventually(ear.hears, 40, what="heard at first")
        fragile_sound.stop(signal.SIGKILL)
        eventually(lambda: ear.program.events("lost"), what="the loss is told")
        before = len(ear.frames())
        fragile_sound.start()
        CD_RATE_ONLY.plug_in(fragile_sound)
        eventually(lambda: ear.hears(before), 40, what="heard again")
        assert np.diff(ear.frames()["sequence"])[before - 1] > 1, "the time without a card is a gap"
        assert set(ear.streams()) == {CD_RATE_ONLY.rate}
        assert ear.program.stop() == 0, ear.program.said()


def test_a_sound_system_that_hangs_and_goes_on(
    fragile_sound: VirtualSound, limiter: Path, tmp_path: Path
) -> None:
    """Closing the stream blocks, too: that is said, and nothing else is begun before it is closed."""
    server = fragile_sound._process
    assert server is not None
    with listening(fragile_sound, STEREO_ONLY, limiter, tmp_path) as ear:
        eventually(ear.hears, 40, what="heard at first")
        before = len(ear.frames())
        server.send_signal(signal.SIGSTOP)
        try:
            eventually(
                lambda: any("does not give" in entry["reason"] for entry in ear.program.events("lost")),
                what="the stream that does not close is told",
            )
            assert "stopped delivering" in ear.program.events("lost")[0]["reason"]
        finally:
            server.send_signal(signal.SIGCONT)
        eventually(lambda: ear.hears(before), 40, what="heard again")
        assert ear.program.stop() == 0, ear.program.said()


def test_it_ends_though_the_sound_system_hangs(
    fragile_sound: VirtualSound, limiter: Path, tmp_path: Path
) -> None:
    server = fragile_sound._process
    assert server is not None
    with listening(fragile_sound, STEREO_ONLY, limiter, tmp_path) as ear:
        eventually(lambda: len(ear.frames()), 40, what="heard at first")
        server.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: ear.program.events("lost"), what="the loss is told")
            assert ear.program.stop() == 0, ear.program.said()
        finally:
            server.send_signal(signal.SIGCONT)


def test_sound_that_comes_late_for_good_is_caught_up_with(
    fragile_sound: VirtualSound, limiter: Path, tmp_path: Path
) -> None:
    """A program that stood still for a moment finds two seconds of the microphone waiting, from then on."""
    with listening(fragile_sound, STEREO_ONLY, limiter, tmp_path, REOPEN_SECONDS) as ear:
        eventually(ear.hears, 40, what="heard at first")
        ear.program.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.6)  # this is what is wrong, and no waiting for anything
        finally:
            ear.program.process.send_signal(signal.SIGCONT)
        eventually(
            lambda: any(" s late" in entry["reason"] for entry in ear.program.events("lost")),
            40,
            what="it is told",
        )
        before = len(ear.frames())
        eventually(lambda: ear.hears(before), 40, what="heard again")
        assert ear.program.stop() == 0, ear.program.said()


async def _listen(heard: Path) -> None:
    """Run the engine until SIGTERM, again after each failure; play a tone by the microphone's clock."""
    tune = tone(50, PLAYED_HZ)
    playback = PlaybackQueue()
    with heard.open("wb", buffering=0) as out:

        def publish(frame: Frame) -> None:
            out.write(np.array([(frame.sequence, frame.samples)], RECORD).tobytes())
            playback.play(tune[frame.sequence % len(tune)])

        def streaming() -> None:
            assert engine.format
            print(json.dumps({"event": "stream", "rate": engine.format.rate}), flush=True)

        config = AudioConfig(input="limited_mic", output="limited_speaker")
        engine = AudioEngine(config, Passthrough, playback, publish, streaming)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        over = asyncio.create_task(ended.wait())
        while not over.done():
            stream = asyncio.create_task(engine.run())
            await asyncio.wait([stream, over], return_when=asyncio.FIRST_COMPLETED)
            stream.cancel()
            try:
                await stream
            except asyncio.CancelledError:
                pass
            except DeviceError as error:
                print(json.dumps({"event": "lost", "reason": str(error)}), flush=True)
                await asyncio.wait([over], timeout=0.2)
        engine.close()


if __name__ == "__main__":
    dsp.REOPEN_SECONDS = float(sys.argv[2])
    asyncio.run(_listen(Path(sys.argv[1])))
