"""Runs in the guest (or on a real Pi), as root: attach a device of a USB/IP server, wait for its sound card.

    python3 guest_attach.py HOST PORT BUSID [VHCI_PORT]

Prints `vhci_port card`. Only the standard library; the socket lives on in the kernel.
"""

import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

VHCI = Path("/sys/devices/platform/vhci_hcd.0")


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            sys.exit("the USB/IP server closed the connection")
        data += more
    return data


def free_port() -> int:
    for line in (VHCI / "status").read_text().splitlines()[1:]:
        hub, port, state = line.split()[:3]
        if hub == "hs" and int(state) == 4:  # VDEV_ST_NULL: nothing there
            return int(port)
    sys.exit("every vhci_hcd port is taken")


def cards() -> set[str]:
    """Numbers of the sound cards behind vhci_hcd."""
    found = Path("/sys/class/sound").glob("card*")
    return {card.name.removeprefix("card") for card in found if "vhci_hcd" in str(card.resolve())}


host, server_port, busid = sys.argv[1], int(sys.argv[2]), sys.argv[3]
subprocess.run(["modprobe", "-a", "vhci-hcd", "snd-usb-audio"], check=True)
connection = socket.create_connection((host, server_port), 20)
connection.sendall(struct.pack(">HHI", 0x0111, 0x8003, 0) + busid.encode().ljust(32, b"\0"))
_version, _code, refused = struct.unpack(">HHI", receive(connection, 8))
if refused:
    sys.exit(f"the USB/IP server has no free device {busid}")
answer = receive(connection, 312)
device, speed = struct.unpack(">I", answer[292:296])[0], struct.unpack(">I", answer[296:300])[0]
connection.settimeout(None)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
before = cards()
port = int(sys.argv[4]) if len(sys.argv) > 4 else free_port()
(VHCI / "attach").write_text(f"{port} {connection.fileno()} {device} {speed}")
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    for card in cards() - before:
        if Path(f"/dev/snd/controlC{card}").exists():
            print(port, card)
            sys.exit(0)
    time.sleep(0.05)
sys.exit("the device attached, but no sound card came")
