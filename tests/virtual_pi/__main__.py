"""`python -m tests.virtual_pi`: a booted virtual Pi with a microphone that speaks, until Ctrl-C.

It answers where inventory.ini looks for it, so the playbooks run on it as they are. `--server` runs the
microphone alone, for a real Pi to attach over the network (docs/virtual-pi.md).
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.virtual_pi.acoustics import Source, tone, wav
from tests.virtual_pi.base import base
from tests.virtual_pi.boards import Raspi3b, Virt
from tests.virtual_pi.container_base import container_base
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.plug import attach, wait_gone
from tests.virtual_pi.progress import say, step
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

_FOUND_BY_INVENTORY = Path(__file__).parents[2] / "build/pi"
_TEXT = "This is the virtual microphone of your virtual Raspberry Pi. I say this again and again."


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual_pi", description=__doc__)
    parser.add_argument("--board", choices=("virt", "raspi3b"), default="virt")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of the virt board")
    parser.add_argument(
        "--wav", type=Path, help="what the microphone hears, over and over, instead of a voice"
    )
    parser.add_argument(
        "--ssh-port", type=int, default=2222, metavar="N", help="2222 as in inventory.ini; 0 is any free one"
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


@contextlib.contextmanager
def found_by_inventory(pi: Machine) -> Iterator[None]:
    """Links to what inventory.ini names: keys for the Pi and its hub, an image that needs no registry."""
    token = pi.folder / "hub-token"
    token.touch(0o600)
    token.write_text(secrets.token_urlsafe())
    links = {"key": pi.key, "hub-token": token, "container.tar.gz": container_base()}
    _FOUND_BY_INVENTORY.mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        (_FOUND_BY_INVENTORY / name).unlink(missing_ok=True)
        (_FOUND_BY_INVENTORY / name).symlink_to(target)
    try:
        yield
    finally:
        for name, target in links.items():
            link = _FOUND_BY_INVENTORY / name
            if link.is_symlink() and link.readlink() == target:  # else it is another one's by now
                link.unlink()
        with contextlib.suppress(OSError):
            _FOUND_BY_INVENTORY.rmdir()


def run(board: Virt | Raspi3b, device: Sh04, ssh_port: int) -> None:
    with contextlib.ExitStack() as stage:
        server = stage.enter_context(UsbipServer())
        pi = stage.enter_context(Machine(base(), board, ssh_port=ssh_port))
        with step("booting"):
            pi.start()
            if ssh_port:  # ours, now that QEMU has it
                stage.enter_context(found_by_inventory(pi))
            pi.wait_ssh(600)
        with step("plugging in the microphone"):
            busid = server.plug(device)
            _, card = attach(pi, server, busid)
        print(f"\nA shell on the Pi:\n\n    {shlex.join(pi.ssh_command())}\n")
        print("There, for example:  arecord -l;  arecord -D hw:SH04 -f S16_LE -r 48000 -d 5 /tmp/voice.wav\n")
        print("To make an appliance of it, in two other terminals here:\n")
        print("    .venv/bin/pinna hub --token-file build/pi/hub-token")
        print("    .venv/bin/ansible-playbook -i inventory.ini ansible/site.yml\n")
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
            run(Virt(options.memory) if options.board == "virt" else Raspi3b(), device, options.ssh_port)
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
