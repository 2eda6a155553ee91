"""A private sound server with a microphone and a loudspeaker that exist only in memory.

PulseAudio with two null sinks on a socket of its own, below ALSA's `pulse` plugin with a configuration of its
own: real PortAudio on real ALSA, paced by a real clock. The machine's own sound is neither used nor touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from pinna.errors import DeviceError

MICROPHONE: Final = "virtual_mic"
SPEAKER: Final = "virtual_speaker"
START_SECONDS: Final = 15.0

ALSA_CONFIGURATION: Final = """\
pcm.{microphone} {{ type pulse server "{server}" device "mic.monitor" }}
pcm.{speaker} {{ type pulse server "{server}" device "speaker" }}
pcm.!default {{ type asym capture.pcm {microphone} playback.pcm {speaker} }}
ctl.!default {{ type pulse server "{server}" }}
"""


class VirtualSound:
    """A context manager. `environment` is what a program needs to see these devices and no others."""

    def __init__(self) -> None:
        for program, package in (("pulseaudio", "pulseaudio"), ("pactl", "pulseaudio-utils")):
            if shutil.which(program) is None:
                raise DeviceError(
                    f"the virtual sound server needs `{program}`, which is not installed",
                    hint=f"Install it: sudo apt install {package} libasound2-plugins",
                    permanent=True,
                )
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "not entered"
        return self._folder

    @property
    def server(self) -> str:
        return f"unix:{self.folder / 'socket'}"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
            "PULSE_SERVER": self.server,
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
        }

    def __enter__(self) -> VirtualSound:
        # sun_path holds 108 bytes: a short folder, wherever TMPDIR points
        self._folder = Path(tempfile.mkdtemp(prefix="pinna-"))
        configuration = ALSA_CONFIGURATION.format(microphone=MICROPHONE, speaker=SPEAKER, server=self.server)
        (self.folder / "asound.conf").write_text(configuration)
        try:
            self.start()
        except BaseException:
            self._leave_nothing()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._leave_nothing()

    def start(self) -> None:
        """Also after `stop`: the same devices come back, as a card that is plugged in again."""
        null_sink = "module-null-sink sink_name={} rate=48000 channels=1 channel_map=mono format=s16le"
        modules = [
            "module-native-protocol-unix auth-anonymous=1 auth-cookie-enabled=0 "
            f"socket={self.folder / 'socket'}",
            null_sink.format("mic"),
            null_sink.format("speaker"),
        ]
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
        command += ["--disallow-exit=yes", "--realtime=no", "--log-target=stderr", "--log-level=error"]
        # Of a server that is killed, libpulse waits for ever to get memory back that both had shared.
        command += ["--disable-shm=yes"]
        for module in modules:
            command += ["-L", module]
        log_path = self.folder / "pulseaudio.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self._wait_until_it_answers(log_path)

    def _wait_until_it_answers(self, log_path: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            command = ["pactl", "list", "short", "sinks"]
            answer = subprocess.run(command, env=self.environment, capture_output=True, check=False)
            if answer.returncode == 0 and b"speaker" in answer.stdout:
                return
            time.sleep(0.05)
        said = log_path.read_text(errors="replace").strip().splitlines()[-3:]
        self.stop()
        raise DeviceError(
            f"the virtual sound server did not start: {' / '.join(said) or 'it said nothing'}",
            hint="Is PulseAudio installed with its plugins? sudo apt install pulseaudio libasound2-plugins",
        )

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End the server. With SIGKILL this is pulling the plug."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sig)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _leave_nothing(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
