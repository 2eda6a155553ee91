"""Opus (RFC 6716) by way of Debian's libopus: what aiortc's own codec lacks is FEC, concealment and thrift.

ctypes releases the GIL for the time of each call. Wideband mono at complexity 0 costs a sixth of aiortc's
stereo at 96 kb/s; libopus takes our 48 kHz and resamples inside, cheaper than a resampler of our own.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

import numpy as np

from pinna.errors import PinnaError
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples

MAX_PACKET_BYTES: Final = 1275
"""RFC 6716 3.2.1: one Opus frame; more than a packet of ours ever has."""

MAX_PACKET_SAMPLES: Final = SAMPLE_RATE * 120 // 1000
"""RFC 6716 3.2.5: no packet is longer than 120 ms."""

# opus_defines.h
_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_MAX_BANDWIDTH = 4004
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_BANDWIDTH_WIDEBAND = 1103

_FRAME_MS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4
"""Frame length by configuration number: RFC 6716 table 2."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise PinnaError(
            f"the Opus library cannot be loaded ({error})",
            hint="Install it: sudo apt install libopus0",
            permanent=True,
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.opus_encoder_create.argtypes = [number, number, number, ctypes.POINTER(number)]
    library.opus_encoder_create.restype = pointer
    library.opus_encoder_destroy.argtypes = [pointer]
    library.opus_encoder_ctl.argtypes = [pointer, number]  # variadic: the value follows
    library.opus_encode.argtypes = [pointer, pointer, number, pointer, number]
    library.opus_decoder_create.argtypes = [number, number, ctypes.POINTER(number)]
    library.opus_decoder_create.restype = pointer
    library.opus_decoder_destroy.argtypes = [pointer]
    library.opus_decode.argtypes = [pointer, ctypes.c_char_p, number, pointer, number, number]
    library.opus_strerror.argtypes = [number]
    library.opus_strerror.restype = ctypes.c_char_p
    return library


def _check(result: int, what: str) -> int:
    if result < 0:
        reason = _library().opus_strerror(result).decode()
        raise ValueError(f"{what}: {reason}")
    return result


def packet_samples(packet: bytes) -> int:
    """How many samples (at 48 kHz) the packet holds, 0 if it is none: RFC 6716 3.1 and 3.2."""
    if not packet:
        return 0
    frame = int(_FRAME_MS[packet[0] >> 3] * SAMPLE_RATE // 1000)
    code = packet[0] & 3
    if code < 3:
        return frame * (1, 2, 2)[code]
    samples = frame * (packet[1] & 0x3F) if len(packet) > 1 else 0
    return samples if samples <= MAX_PACKET_SAMPLES else 0


def has_fec(packet: bytes) -> bool:
    """Whether the packet carries a second copy of the frame before it (LBRR): RFC 6716 4.2.3 and 4.2.4.

    Reads one-frame SILK or hybrid packets, the only ones encoders put it in at our frame lengths.
    """
    if len(packet) < 2 or packet[0] & 3 or packet[0] >> 3 >= 16:
        return False
    silk_frames = max(1, int(_FRAME_MS[packet[0] >> 3]) // 20)
    middle = packet[1] >> (7 - silk_frames) & 1
    side = packet[0] >> 2 & 1 and packet[1] >> (6 - 2 * silk_frames) & 1
    return bool(middle or side)


class Encoder:
    """20 ms frames, mono, wideband, tuned for speech. One stream; not for two threads at once."""

    def __init__(
        self,
        bitrate: int = 32_000,
        complexity: int = 0,
        *,
        fec: bool = True,
        packet_loss_percent: int = 20,
    ) -> None:
        """`packet_loss_percent`: the loss to guard against; it sets the FEC copy's share of the bits."""
        self._library = _library()
        error = ctypes.c_int()
        self._state = self._library.opus_encoder_create(
            SAMPLE_RATE, 1, _APPLICATION_VOIP, ctypes.byref(error)
        )
        _check(error.value, "Opus encoder")
        self._set(_SET_MAX_BANDWIDTH, _BANDWIDTH_WIDEBAND)
        self._set(_SET_BITRATE, bitrate)
        self._set(_SET_COMPLEXITY, complexity)
        self._set(_SET_INBAND_FEC, int(fec))
        self.expect_loss(packet_loss_percent)
        self._out = ctypes.create_string_buffer(MAX_PACKET_BYTES)

    def _set(self, request: int, value: int) -> None:
        _check(
            self._library.opus_encoder_ctl(self._state, request, ctypes.c_int(value)),
            f"Opus option {request}",
        )

    def expect_loss(self, percent: int) -> None:
        self._set(_SET_PACKET_LOSS_PERC, min(100, max(0, percent)))

    def encode(self, samples: Samples) -> bytes:
        """One packet of `samples`, shape (960,), int16, 48 kHz."""
        if samples.shape != (FRAME_SAMPLES,) or samples.dtype != np.int16:
            raise ValueError(f"a frame is (960,) int16, not {samples.shape} {samples.dtype}")
        samples = np.ascontiguousarray(samples)
        size = self._library.opus_encode(
            self._state, samples.ctypes.data, FRAME_SAMPLES, self._out, MAX_PACKET_BYTES
        )
        return self._out.raw[: _check(size, "Opus encoder")]

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_encoder_destroy(self._state)
            self._state = None


class Decoder:
    """Mono at 48 kHz, whatever the packets hold (libopus mixes stereo down)."""

    def __init__(self) -> None:
        self._library = _library()
        error = ctypes.c_int()
        self._state = self._library.opus_decoder_create(SAMPLE_RATE, 1, ctypes.byref(error))
        _check(error.value, "Opus decoder")
        self._pcm = np.zeros(MAX_PACKET_SAMPLES, np.int16)

    def decode(self, packet: bytes | None, *, fec: bool = False, samples: int = FRAME_SAMPLES) -> Samples:
        """The packet's samples, shape (n,), n its own length: 960 for 20 ms packets.

        Without a packet: `samples` of concealment. With `fec`: `samples` of the frame *before* the packet,
        from its second copy if it has one, else concealed. Raises ValueError for what is not Opus.
        """
        room = MAX_PACKET_SAMPLES if packet and not fec else samples
        size = self._library.opus_decode(
            self._state, packet or None, len(packet or b""), self._pcm.ctypes.data, room, int(fec)
        )
        return self._pcm[: _check(size, "Opus decoder")].copy()

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_decoder_destroy(self._state)
            self._state = None
