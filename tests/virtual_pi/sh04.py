"""The virtual SH-04: the device behind the USB/IP wire. Its control requests, its two streams, its faults.

The bus runs on the host's monotonic clock, one frame a millisecond. The microphone's converter has a clock of
its own (`ppm` fast), so its packets hold a sample more or less now and then; the speaker follows the host.
A URB that comes late is served at the next tick, so a slow guest loses no sample until it is 500 ms
behind. What is due is completed once a tick, every few milliseconds: the driver keeps a dozen URBs waiting,
and an emulated network card carries a few large packets far better than a thousand small ones a second.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from tests.virtual_pi import uac1
from tests.virtual_pi.acoustics import Room, Source, silence, to_pcm
from tests.virtual_pi.uac1 import MICROPHONE_ENDPOINT, SPEAKER_ENDPOINT, Identity
from tests.virtual_pi.usbip import DeviceInfo, Packet, Submit, submitted

_LATE_SECONDS = 0.5
_TICK_SECONDS = 0.005
_KEPT_BLOCKS = 60_000  # a minute or more of either direction


class Sh04:
    """One device. Faults are attributes, to be set at any time and from any thread.

    `source` is what the microphone hears, besides what `room` brings from the speaker.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        *,
        source: Source = silence,
        room: Room | None = None,
        ppm: float = 0.0,
    ) -> None:
        self.identity = identity or Identity()
        self.source = source
        self.room = room
        self.ppm = ppm
        self.stalled = False  # streaming packets fail with EPIPE
        self.illegible = False  # control requests fail with EPROTO: a bad cable
        self.frozen = False  # nothing answers any more, but the plug stays in
        self.babble = 0.0  # this share of the microphone's packets is lost to EOVERFLOW
        self.short = 0.0  # this share of the microphone's packets holds half of its samples
        self.refused_rates: set[int] = set()
        self.rates = {
            MICROPHONE_ENDPOINT: self.identity.microphone_rates[0],
            SPEAKER_ENDPOINT: self.identity.speaker_rates[0],
        }
        self.controls = {
            (unit, control): 0
            for unit in (uac1.MICROPHONE_UNIT, uac1.SPEAKER_UNIT)
            for control in (uac1.MUTE, uac1.VOLUME)
        }
        self.delivered: deque[tuple[float, NDArray[np.int16]]] = deque(maxlen=_KEPT_BLOCKS)
        self.played: deque[tuple[float, NDArray[np.int16]]] = deque(maxlen=_KEPT_BLOCKS)
        self._chance = random.Random(4)
        self._sample_debt = 0.0
        self._to_lose_ms = 0.0

    def info(self, busid: str, number: int) -> DeviceInfo:
        who = self.identity
        return DeviceInfo(busid, number, who.vendor, who.product, 0x0100, who.interfaces)

    def lose(self, milliseconds: float) -> None:
        """The converter drops this much of what it hears: the stream goes on without it."""
        self._to_lose_ms += milliseconds

    def heard(self) -> NDArray[np.int16]:
        """All that the microphone delivered so far, (samples, channels)."""
        return _joined(self.delivered, self.identity.microphone_channels)

    def spoken(self) -> NDArray[np.int16]:
        """All that the speaker got so far, (samples, channels), before its volume."""
        return _joined(self.played, self.identity.speaker_channels)

    def control(self, urb: Submit) -> tuple[int, bytes]:
        """Answer a request on endpoint 0: (0 or -errno, data). What it does not know it stalls."""
        if self.illegible:
            return -errno.EPROTO, b""
        kind, request = urb.setup[0], urb.setup[1]
        value = int.from_bytes(urb.setup[2:4], "little")
        index = int.from_bytes(urb.setup[4:6], "little")
        length = int.from_bytes(urb.setup[6:8], "little")
        if kind & 0x60 == 0x20:
            answer = self._class_request(kind & 0x1F, request, value, index, urb.data)
        else:
            answer = self._standard_request(request, value)
        return (-errno.EPIPE, b"") if answer is None else (0, answer[:length])

    def _standard_request(self, request: int, value: int) -> bytes | None:
        """USB 2.0 table 9-4."""
        if request == 6:  # GET_DESCRIPTOR
            return uac1.descriptor(self.identity, value)
        fixed = {0: b"\0\0", 8: b"\1", 10: b"\0"}  # GET_STATUS, GET_CONFIGURATION, GET_INTERFACE
        ignored = {1, 3, 5, 9, 11}  # CLEAR_FEATURE, SET_FEATURE, _ADDRESS, _CONFIGURATION, _INTERFACE
        return b"" if request in ignored else fixed.get(request)

    def _class_request(
        self, recipient: int, request: int, value: int, index: int, data: bytes
    ) -> bytes | None:
        selector = value >> 8
        if recipient == 2 and selector == uac1.SAMPLING_FREQUENCY:
            return self._frequency(request, index & 0x0F, data)
        control = (index >> 8, selector)
        if recipient != 1 or control not in self.controls:
            return None
        size = 1 if selector == uac1.MUTE else 2
        if request == uac1.SET_CUR and len(data) == size:
            self.controls[control] = int.from_bytes(data, "little", signed=size == 2)
            return b""
        if selector == uac1.VOLUME:
            limits = {
                uac1.GET_MIN: uac1.VOLUME_MIN,
                uac1.GET_MAX: uac1.VOLUME_MAX,
                uac1.GET_RES: uac1.VOLUME_STEP,
            }
            if request in limits:
                return limits[request].to_bytes(2, "little", signed=True)
        return (
            self.controls[control].to_bytes(size, "little", signed=True) if request == uac1.GET_CUR else None
        )

    def _frequency(self, request: int, endpoint: int, data: bytes) -> bytes | None:
        if request == uac1.GET_CUR and endpoint in self.rates:
            return self.rates[endpoint].to_bytes(3, "little")
        if request != uac1.SET_CUR or len(data) != 3:
            return None
        rate = int.from_bytes(data, "little")
        known = {
            MICROPHONE_ENDPOINT: self.identity.microphone_rates,
            SPEAKER_ENDPOINT: self.identity.speaker_rates,
        }
        if rate not in known.get(endpoint, ()) or rate in self.refused_rates:
            return None
        self.rates[endpoint] = rate
        return b""

    def _gain(self, unit: int) -> float:
        if self.controls[unit, uac1.MUTE]:
            return 0.0
        return float(10 ** (self.controls[unit, uac1.VOLUME] / 256 / 20))

    def hear(self, urb: Submit, at: float) -> bytes:
        """Complete an IN URB with what the microphone picked up in its frames, from bus time `at` on."""
        rate, channels = self.rates[MICROPHONE_ENDPOINT], self.identity.microphone_channels
        counts = []
        for packet in urb.packets:
            self._sample_debt += rate * (1 + self.ppm * 1e-6) / 1000
            count = min(int(self._sample_debt), packet.length // (channels * uac1.SAMPLE_BYTES))
            self._sample_debt = min(self._sample_debt - count, 1.0)
            counts.append(count)
        signal = self._microphone(at, sum(counts), rate)
        pcm, width, start = to_pcm(signal), channels * uac1.SAMPLE_BYTES, 0
        data, packets = bytearray(), []
        for packet, count in zip(urb.packets, counts, strict=True):
            piece = pcm[start * width : (start + count) * width]
            start += count
            status = -errno.EPIPE if self.stalled else 0
            if self._chance.random() < self.babble:
                status = -errno.EOVERFLOW
            elif self._chance.random() < self.short:
                piece = piece[: count // 2 * width]
            piece = b"" if status else piece
            packets.append(Packet(packet.offset, packet.length, len(piece), status))
            data += piece
        self.delivered.append((at, np.frombuffer(bytes(data), "<i2").reshape(-1, channels)))
        return submitted(urb, 0, bytes(data), packets=tuple(packets), frame=round(at * 1000))

    def _microphone(self, at: float, samples: int, rate: int) -> NDArray[np.float64]:
        if not samples:
            return np.zeros((0, self.identity.microphone_channels))
        if self._to_lose_ms:
            self.source(round(self._to_lose_ms * rate / 1000), rate)
            self._to_lose_ms = 0.0
        signal = np.asarray(self.source(samples, rate), np.float64).reshape(samples, -1)
        if self.room:
            signal = signal + self.room.heard(at, samples, rate)[:, None]
        wide = np.broadcast_to(signal, (samples, self.identity.microphone_channels))
        return wide * self._gain(uac1.MICROPHONE_UNIT)

    def emit(self, urb: Submit, at: float) -> bytes:
        """Play an OUT URB's frames from bus time `at` on, and make its completion."""
        status = -errno.EPIPE if self.stalled else 0
        packets = tuple(Packet(p.offset, p.length, 0 if status else p.length, status) for p in urb.packets)
        if not status:
            data = b"".join(urb.data[p.offset : p.offset + p.length] for p in urb.packets)
            width = self.identity.speaker_channels * uac1.SAMPLE_BYTES
            block = np.frombuffer(data[: len(data) // width * width], "<i2").reshape(-1, width // 2)
            self.played.append((at, block))
            if self.room and len(block):
                mono = block.mean(axis=1) / 32768 * self._gain(uac1.SPEAKER_UNIT)
                self.room.play(at, mono, self.rates[SPEAKER_ENDPOINT])
        return submitted(urb, 0, packets=packets, frame=round(at * 1000))


def _joined(blocks: deque[tuple[float, NDArray[np.int16]]], channels: int) -> NDArray[np.int16]:
    return np.concatenate([np.zeros((0, channels), np.int16), *(block for _, block in list(blocks))])


class Stream:
    """One isochronous endpoint of one connection: its queue of URBs, served in order and in time."""

    def __init__(self, device: Sh04, send: Callable[[bytes], None]) -> None:
        self._device = device
        self._send = send
        self._queue: deque[tuple[Submit, float, bytes | None]] = deque()
        self._next = 0.0
        self._filled = asyncio.Event()

    def submit(self, urb: Submit) -> None:
        now = time.monotonic()
        if self._next < now - _LATE_SECONDS:
            self._next = now
        # What is played is in the air as soon as it is known: the microphone's frame of the same
        # time may be completed first.
        reply = None if urb.inbound else self._device.emit(urb, self._next)
        self._queue.append((urb, self._next, reply))
        self._next += len(urb.packets) / 1000
        self._filled.set()

    def unlink(self, sequence: int) -> bool:
        """Whether the URB was still waiting, and now is not."""
        for entry in self._queue:
            if entry[0].sequence == sequence:
                self._queue.remove(entry)
                return True
        return False

    async def serve(self) -> None:
        while True:
            if not self._queue:
                self._filled.clear()
                await self._filled.wait()
            if not self._queue:
                continue
            urb, at, _ = self._queue[0]
            due = at + len(urb.packets) / 1000
            now = time.monotonic()
            # Late ones wait for the tick, too: a guest that is behind must not get a packet for each.
            await asyncio.sleep(math.ceil(max(due, now) / _TICK_SECONDS) * _TICK_SECONDS - now)
            self._send(b"".join(self._completed(time.monotonic())))

    def _completed(self, now: float) -> Iterator[bytes]:
        """The replies to all URBs whose frames are over."""
        while self._queue and not self._device.frozen:
            urb, at, reply = self._queue[0]
            if at + len(urb.packets) / 1000 > now:
                return
            self._queue.popleft()
            yield self._device.hear(urb, at) if reply is None else reply
