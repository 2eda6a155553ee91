"""`python -m tests.virtual_pi`: a booted virtual Pi with a microphone that speaks, until Ctrl-C.

`--server` runs the microphone alone, for a real Pi to attach over the network (docs/virtual-pi.md).
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.virtual_pi.acoustics import Source, tone, wav
from tests.virtual_pi.base import base
from tests.virtual_pi.boards import Raspi3b, Virt
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.plug import attach, wait_gone
from tests.virtual_pi.progress import say, step
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

_TEXT = "This is the virtual microphone of your virtual Raspberry Pi. I say this again and again."


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual_pi", description=__doc__)
    parser.add_argument("--board", choices=("virt", "raspi3b"), default="virt")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of the virt board")
    parser.add_argument(
        "--wav", type=Path, help="what the microphone hears, over and over, instead of a voice"
    )
    parser.add_argument("--server", metavar="ADDRESS", help="only serve the microphone, on this address")
    parser.add_argument("--port", type=int, default=3240, help="of --server; 3240 is USB/IP's own")
    return parser.parse_args()


def voice() -> Source:
    """espeak-ng saying what it is; a 440 Hz tone where espeak-ng is not installed."""
    if not shutil.which("espeak-ng"):
        say("espeak-ng is not installed: the microphone hums instead of speaking")
        return tone(440.0)
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "voice.wav"
        subprocess.run(["espeak-ng", "-w", str(spoken), _TEXT], check=True, timeout=60)
        return wav(spoken)


def serve(device: Sh04, address: str, port: int) -> None:
    with UsbipServer(address, port) as server:
        say(f"device {server.plug(device)} on {address} port {server.port}; Ctrl-C ends it")
        signal.pause()


def run(board: Virt | Raspi3b, device: Sh04) -> None:
    with UsbipServer() as server, Machine(base(), board) as pi:
        with step("booting"):
            pi.start()
            pi.wait_ssh(600)
        with step("plugging in the microphone"):
            busid = server.plug(device)
            _, card = attach(pi, server, busid)
        print(f"\nA shell on the Pi:\n\n    {shlex.join(pi.ssh_command())}\n")
        print("There, for example:  arecord -l;  arecord -D hw:SH04 -f S16_LE -r 48000 -d 5 /tmp/voice.wav\n")
        print("Here:  u + Enter unplugs,  p + Enter plugs in again,  r + Enter cuts the power and boots;")
        print("Ctrl-C ends it all and removes every trace.\n", flush=True)
        plugged = True
        for line in sys.stdin:
            key = line.strip().lower()
            if key == "u" and plugged:
                server.unplug(busid)
                wait_gone(pi, card)
                plugged = False
                say("unplugged")
            elif key == "p" and not plugged:
                busid = server.plug(device)
                _, card = attach(pi, server, busid)
                plugged = True
                say(f"plugged in, card {card}")
            elif key == "r":
                with step("power cut, and booting"):
                    pi.power_cut()
                    pi.start()
                    pi.wait_ssh(600)
                if plugged:
                    _, card = attach(pi, server, busid)
                say(f"up again; a shell: {shlex.join(pi.ssh_command())}")
        signal.pause()  # no terminal to read from: run on until a signal


def main() -> int:
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        device = Sh04(source=wav(options.wav) if options.wav else voice())
        if options.server:
            serve(device, options.server, options.port)
        else:
            run(Virt(options.memory) if options.board == "virt" else Raspi3b(), device)
    except KeyboardInterrupt:
        say("ended")
    except VirtualPiError as error:
        print(f"virtual pi: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a WAV file that is not there, a full disk
        print(f"virtual pi: {error}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
