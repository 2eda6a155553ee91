"""The USB/IP wire format, as in the kernel's Documentation/usb/usbip_protocol.rst. All of it is big-endian.

A connection begins with one operation (list the devices, or import one). After a successful import it
carries commands: submit a URB, or unlink one submitted before.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

VERSION = 0x0111
REQUEST_DEVICES, REPLY_DEVICES = 0x8005, 0x0005
REQUEST_IMPORT, REPLY_IMPORT = 0x8003, 0x0003
SUBMIT, UNLINK, SUBMITTED, UNLINKED = 1, 2, 3, 4

FULL_SPEED = 2  # enum usb_device_speed
MAX_TRANSFER = 1 << 20  # ours: a full-speed audio device needs a few kilobytes
MAX_PACKETS = 1024  # USBIP_MAX_ISO_PACKETS

_OPERATION = struct.Struct(">HHI")
_COMMAND = struct.Struct(">5I")
_SUBMIT = struct.Struct(">IiiiI8s")
_PACKET = struct.Struct(">4I")
_RETURN = struct.Struct(">5Iiiiii8x")
_UNLINKED = struct.Struct(">5Ii24x")


class MalformedError(Exception):
    """The other side does not speak USB/IP, or asks for what no device can do."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    busid: str


@dataclass(frozen=True, slots=True)
class DevicesRequest:
    pass


@dataclass(frozen=True, slots=True)
class Packet:
    """One isochronous packet: where it lies in the URB's buffer, and what became of it (-errno or 0)."""

    offset: int
    length: int
    actual: int = 0
    status: int = 0


@dataclass(frozen=True, slots=True)
class Submit:
    """A URB. `data` is what the host sends (empty for IN); `packets` is empty unless isochronous."""

    sequence: int
    endpoint: int
    inbound: bool
    length: int
    setup: bytes
    data: bytes = b""
    packets: tuple[Packet, ...] = ()


@dataclass(frozen=True, slots=True)
class Unlink:
    sequence: int
    victim: int


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the list of devices and the answer to an import say of one device."""

    busid: str
    number: int
    vendor: int
    product: int
    release: int
    interfaces: tuple[tuple[int, int, int], ...]

    def pack(self) -> bytes:
        path = f"/sys/devices/virtual/{self.busid}".encode()
        ids = struct.pack(">IIIHHH", 1, self.number, FULL_SPEED, self.vendor, self.product, self.release)
        classes = bytes((0, 0, 0, 1, 1, len(self.interfaces)))  # class per interface; configuration 1 of 1
        return path.ljust(256, b"\0") + self.busid.encode().ljust(32, b"\0") + ids + classes

    def pack_interfaces(self) -> bytes:
        return b"".join(bytes((*interface, 0)) for interface in self.interfaces)


async def read_request(reader: asyncio.StreamReader) -> DevicesRequest | ImportRequest:
    """The first message of a connection. Raises MalformedError, or IncompleteReadError at its end."""
    version, code, _status = _OPERATION.unpack(await reader.readexactly(_OPERATION.size))
    if version != VERSION:
        raise MalformedError(f"version {version:#06x}, not {VERSION:#06x}")
    if code == REQUEST_DEVICES:
        return DevicesRequest()
    if code == REQUEST_IMPORT:
        busid = (await reader.readexactly(32)).split(b"\0")[0]
        return ImportRequest(busid.decode("ascii", "replace"))
    raise MalformedError(f"operation {code:#06x}")


async def read_command(reader: asyncio.StreamReader) -> Submit | Unlink:
    """The next command after an import. Raises as `read_request` does."""
    code, sequence, _device, direction, endpoint = _COMMAND.unpack(await reader.readexactly(_COMMAND.size))
    rest = await reader.readexactly(_SUBMIT.size)
    if code == UNLINK:
        return Unlink(sequence, int.from_bytes(rest[:4], "big"))
    if code != SUBMIT:
        raise MalformedError(f"command {code:#x}")
    _flags, length, _frame, count, _interval, setup = _SUBMIT.unpack(rest)
    if direction not in (0, 1) or endpoint > 15:
        raise MalformedError(f"endpoint {endpoint}, direction {direction}")
    if not 0 <= length <= MAX_TRANSFER:
        raise MalformedError(f"a transfer of {length} bytes")
    if not -1 <= count <= MAX_PACKETS:  # -1 and 0 both say: not isochronous
        raise MalformedError(f"{count} isochronous packets")
    data = await reader.readexactly(length) if direction == 0 else b""
    packed = await reader.readexactly(_PACKET.size * max(0, count))
    packets = tuple(Packet(offset, size) for offset, size, _, _ in _PACKET.iter_unpack(packed))
    for packet in packets:
        if packet.offset + packet.length > length:
            raise MalformedError(f"a packet ends at {packet.offset + packet.length} of {length} bytes")
    return Submit(sequence, endpoint, direction == 1, length, setup, data, packets)


def devices_reply(devices: list[DeviceInfo]) -> bytes:
    body = b"".join(device.pack() + device.pack_interfaces() for device in devices)
    return _OPERATION.pack(VERSION, REPLY_DEVICES, 0) + struct.pack(">I", len(devices)) + body


def import_reply(device: DeviceInfo | None) -> bytes:
    """The answer to an import; None refuses it."""
    if device is None:
        return _OPERATION.pack(VERSION, REPLY_IMPORT, 1)
    return _OPERATION.pack(VERSION, REPLY_IMPORT, 0) + device.pack()


def submitted(
    urb: Submit, status: int, data: bytes = b"", *, packets: tuple[Packet, ...] = (), frame: int = 0
) -> bytes:
    """The completion of `urb`: `status` is 0 or -errno, `data` what an IN endpoint delivers.

    Isochronous data is the packets' actual bytes without the gaps between them.
    """
    actual = len(data) if urb.inbound else sum(p.actual for p in packets) if packets else len(urb.data)
    errors = sum(1 for packet in packets if packet.status)
    count = len(packets) if urb.packets else -1
    head = _RETURN.pack(SUBMITTED, urb.sequence, 0, 0, 0, status, actual, frame & 0x7FF, count, errors)
    tail = b"".join(_PACKET.pack(p.offset, p.length, p.actual, p.status & 0xFFFFFFFF) for p in packets)
    return head + (data if urb.inbound else b"") + tail


def unlinked(command: Unlink, status: int) -> bytes:
    return _UNLINKED.pack(UNLINKED, command.sequence, 0, 0, 0, status)
