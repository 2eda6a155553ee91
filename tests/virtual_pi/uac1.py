"""Descriptors and requests of a full-speed USB Audio Class 1.0 device: a microphone, and maybe a speaker.

Numbers are those of "USB Device Class Definition for Audio Devices" 1.0 (audio10), "... Data Formats" 1.0
(frmts10) and "... Terminal Types" 1.0, chapter and table named where they are used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MICROPHONE_ENDPOINT, SPEAKER_ENDPOINT = 1, 2  # 0x81 and 0x02 with their direction bit
MICROPHONE_UNIT, SPEAKER_UNIT = 2, 5
SAMPLE_BYTES = 2

# audio10 A.9: request codes; A.10: control selectors
SET_CUR, GET_CUR, GET_MIN, GET_MAX, GET_RES = 0x01, 0x81, 0x82, 0x83, 0x84
SAMPLING_FREQUENCY, MUTE, VOLUME = 1, 1, 2
VOLUME_MIN, VOLUME_MAX, VOLUME_STEP = -60 * 256, 0, 256  # 1/256 dB, audio10 5.2.2.4.3.2

_DEVICE, _CONFIGURATION, _STRING, _INTERFACE, _ENDPOINT = 1, 2, 3, 4, 5
_CS_INTERFACE, _CS_ENDPOINT = 0x24, 0x25


@dataclass(frozen=True)
class Identity:
    """What the device says of itself. Rates in Hz; 0 channels mean no microphone, or no speaker."""

    serial: str = "20261120"
    vendor: int = 0x4C4A
    product: int = 0x4155
    manufacturer: str = "Jieli Technology"
    name: str = "SH-04"
    microphone_channels: int = 1
    microphone_rates: tuple[int, ...] = (48000,)
    speaker_channels: int = 2
    speaker_rates: tuple[int, ...] = (48000,)

    @property
    def interfaces(self) -> tuple[tuple[int, int, int], ...]:
        """(class, subclass, protocol) of each: AudioControl, then one AudioStreaming a direction."""
        return ((1, 1, 0), *(((1, 2, 0),) * (bool(self.microphone_channels) + bool(self.speaker_channels))))


def device_descriptor(identity: Identity) -> bytes:
    ids = (identity.vendor, identity.product, 0x0100)
    return struct.pack("<BBHBBBBHHHBBBB", 18, _DEVICE, 0x0110, 0, 0, 0, 64, *ids, 1, 2, 3, 1)


def string_descriptor(identity: Identity, index: int) -> bytes | None:
    texts = {1: identity.manufacturer, 2: identity.name, 3: identity.serial}
    if index == 0:
        return bytes((4, _STRING)) + struct.pack("<H", 0x0409)
    if index not in texts:
        return None
    text = texts[index].encode("utf-16le")
    return bytes((2 + len(text), _STRING)) + text


def configuration_descriptor(identity: Identity) -> bytes:
    body, number = _control_interface(identity), 1
    if identity.microphone_channels:
        body += _streaming_interface(
            number, identity.microphone_channels, identity.microphone_rates, inbound=True
        )
        number += 1
    if identity.speaker_channels:
        body += _streaming_interface(number, identity.speaker_channels, identity.speaker_rates, inbound=False)
    head = struct.pack(
        "<BBHBBBBB", 9, _CONFIGURATION, 9 + len(body), len(identity.interfaces), 1, 0, 0x80, 50
    )
    return head + body


def _control_interface(identity: Identity) -> bytes:
    """audio10 4.3: microphone -> feature unit -> USB, and USB -> feature unit -> speaker."""
    units, streams = b"", 0
    if identity.microphone_channels:
        units += _path(
            1, 0x0201, 0x0101, identity.microphone_channels
        )  # Terminal Types 2.2 microphone, 2.1 USB
        streams += 1
    if identity.speaker_channels:
        units += _path(4, 0x0101, 0x0301, identity.speaker_channels)  # 2.3 speaker
        streams += 1
    size = 8 + streams
    header = struct.pack("<BBBHHB", size, _CS_INTERFACE, 1, 0x0100, size + len(units), streams)
    return bytes((9, _INTERFACE, 0, 0, 0, 1, 1, 0, 0)) + header + bytes(range(1, streams + 1)) + units


def _path(first: int, source: int, sink: int, channels: int) -> bytes:
    """Input terminal `first`, feature unit `first + 1` (mute, volume), output terminal `first + 2`."""
    config = 0b11 if channels == 2 else 0
    terminal = struct.pack("<BBBBHBBHBB", 12, _CS_INTERFACE, 2, first, source, 0, channels, config, 0, 0)
    controls = bytes((0b11, *(0,) * channels))  # mute and volume, on the master channel
    unit = bytes((7 + len(controls), _CS_INTERFACE, 6, first + 1, first, 1)) + controls + b"\0"
    return terminal + unit + struct.pack("<BBBBHBBB", 9, _CS_INTERFACE, 3, first + 2, sink, 0, first + 1, 0)


def packet_bytes(rates: tuple[int, ...], channels: int) -> int:
    """wMaxPacketSize: the most samples of one 1 ms frame, one more for a clock that runs fast."""
    return (-(-max(rates) // 1000) + 1) * channels * SAMPLE_BYTES


def _streaming_interface(number: int, channels: int, rates: tuple[int, ...], *, inbound: bool) -> bytes:
    """audio10 4.5 and 4.6; frmts10 2.2.5. Setting 0 is idle, setting 1 streams.

    The microphone is asynchronous (its clock is its own), the speaker adaptive (it follows the host).
    """
    link = 3 if inbound else 4
    address = 0x80 | MICROPHONE_ENDPOINT if inbound else SPEAKER_ENDPOINT
    kind = 0x05 if inbound else 0x09
    listed = b"".join(rate.to_bytes(3, "little") for rate in rates)
    return b"".join(
        (
            bytes((9, _INTERFACE, number, 0, 0, 1, 2, 0, 0)),
            bytes((9, _INTERFACE, number, 1, 1, 1, 2, 0, 0)),
            struct.pack("<BBBBBH", 7, _CS_INTERFACE, 1, link, 1, 1),  # PCM
            bytes((8 + len(listed), _CS_INTERFACE, 2, 1, channels, SAMPLE_BYTES, 16, len(rates))) + listed,
            struct.pack("<BBBBHBBB", 9, _ENDPOINT, address, kind, packet_bytes(rates, channels), 1, 0, 0),
            struct.pack("<BBBBBH", 7, _CS_ENDPOINT, 1, 1, 0, 0),  # has a sampling frequency control
        )
    )


def descriptor(identity: Identity, value: int) -> bytes | None:
    """The answer to GET_DESCRIPTOR with wValue `value`; None where the device has no such descriptor."""
    kind, index = value >> 8, value & 0xFF
    if kind == _DEVICE:
        return device_descriptor(identity)
    if kind == _CONFIGURATION and index == 0:
        return configuration_descriptor(identity)
    return string_descriptor(identity, index) if kind == _STRING else None
