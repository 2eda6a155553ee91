"""A thin ctypes binding on Debian's libspeexdsp: echo canceller, preprocessor, resampler.

ctypes lets go of the GIL during each call. Blocks are contiguous int16 of shape (n,); every length is
checked before a pointer leaves Python. Objects are not thread-safe: one thread owns each. Request numbers
are those of speex_echo.h and speex_preprocess.h of speexdsp 1.2.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinna.errors import EchoCancellerError
from pinna.frame import Samples

LIBRARY: Final = "libspeexdsp.so.1"

_ECHO_SET_SAMPLING_RATE: Final = 24
_ECHO_GET_IMPULSE_RESPONSE_SIZE: Final = 27
_ECHO_GET_IMPULSE_RESPONSE: Final = 29
_PP_SET_DENOISE: Final = 0
_PP_SET_NOISE_SUPPRESS: Final = 18
_PP_SET_ECHO_SUPPRESS: Final = 20
_PP_SET_ECHO_SUPPRESS_ACTIVE: Final = 22
_PP_SET_ECHO_STATE: Final = 24


@cache
def library(name: str = LIBRARY) -> ctypes.CDLL:
    """The loaded library with its signatures declared. Raises EchoCancellerError when it is missing."""
    try:
        lib = ctypes.CDLL(name)
    except OSError as error:
        raise EchoCancellerError(
            f"the echo canceller's library {name} cannot be loaded ({error})",
            hint="Install it: `sudo apt install libspeexdsp1`",
            permanent=True,
        ) from error
    pointer, integer, unsigned = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
    signatures: dict[str, tuple[object, list[object]]] = {
        "speex_echo_state_init": (pointer, [integer, integer]),
        "speex_echo_state_destroy": (None, [pointer]),
        "speex_echo_state_reset": (None, [pointer]),
        "speex_echo_cancellation": (None, [pointer] * 4),
        "speex_echo_ctl": (integer, [pointer, integer, pointer]),
        "speex_preprocess_state_init": (pointer, [integer, integer]),
        "speex_preprocess_state_destroy": (None, [pointer]),
        "speex_preprocess_run": (integer, [pointer, pointer]),
        "speex_preprocess_ctl": (integer, [pointer, integer, pointer]),
        "speex_resampler_init": (pointer, [unsigned, unsigned, unsigned, integer, pointer]),
        "speex_resampler_destroy": (None, [pointer]),
        "speex_resampler_process_int": (integer, [pointer, unsigned, pointer, pointer, pointer, pointer]),
        "speex_resampler_get_output_latency": (integer, [pointer]),
    }
    for symbol, (result, arguments) in signatures.items():
        function = getattr(lib, symbol)
        function.restype = result
        function.argtypes = arguments
    return lib


def _address(block: Samples, length: int, name: str) -> int:
    if block.dtype != np.int16 or block.shape != (length,) or not block.flags.c_contiguous:
        raise ValueError(
            f"{name}: want contiguous int16 of shape ({length},), got {block.dtype} of shape {block.shape}"
        )
    address: int = block.__array_interface__["data"][0]  # a third of the cost of block.ctypes
    return address


class _Handle:
    """A C object that is destroyed once, by close() or at the latest by the garbage collector."""

    _destroyer: str

    def __init__(self, pointer: int | None) -> None:
        if not pointer:
            raise EchoCancellerError("libspeexdsp has no memory", hint="Free some memory")
        self._pointer: int | None = pointer

    @property
    def pointer(self) -> int:
        """The C pointer. Raises ValueError after close()."""
        if self._pointer is None:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._pointer

    def close(self) -> None:
        pointer, self._pointer = getattr(self, "_pointer", None), None
        if pointer:
            getattr(library(), self._destroyer)(pointer)

    __del__ = close


class EchoState(_Handle):
    """Speex's MDF canceller: `frame` samples a block, an adaptive filter of `tail` samples, at `rate` Hz."""

    _destroyer = "speex_echo_state_destroy"

    def __init__(self, frame: int, tail: int, rate: int) -> None:
        if frame <= 0 or tail < frame or rate <= 0:
            raise ValueError(f"frame {frame}, tail {tail}, rate {rate}: want 0 < frame <= tail, rate > 0")
        self._lib = library()
        self.frame = frame
        super().__init__(self._lib.speex_echo_state_init(frame, tail))
        self._control(_ECHO_SET_SAMPLING_RATE, ctypes.c_int32(rate))
        size = ctypes.c_int32(0)
        self._control(_ECHO_GET_IMPULSE_RESPONSE_SIZE, size)
        self.taps = size.value

    def _control(self, request: int, value: ctypes.c_int32) -> None:
        self._lib.speex_echo_ctl(self.pointer, request, ctypes.byref(value))

    def cancel(self, near: Samples, far: Samples) -> Samples:
        """`near` minus the estimated echo of `far`; all shape (frame,). Raises ValueError for others."""
        out = np.empty(self.frame, np.int16)
        self._lib.speex_echo_cancellation(
            self.pointer,
            _address(near, self.frame, "near"),
            _address(far, self.frame, "far"),
            _address(out, self.frame, "out"),
        )
        return out

    def impulse_response(self) -> NDArray[np.int32]:
        """The adaptive filter as it stands, shape (taps,), 32767 for a gain of one."""
        taps = np.zeros(self.taps, np.int32)
        self._lib.speex_echo_ctl(self.pointer, _ECHO_GET_IMPULSE_RESPONSE, taps.ctypes.data)
        return taps

    def reset(self) -> None:
        """Forget everything learnt."""
        self._lib.speex_echo_state_reset(self.pointer)


class Preprocessor(_Handle):
    """Speex's noise and residual echo suppressor; its output is one block late.

    Echo is only suppressed while DENOISE is on (preprocess.c forces a gain of one otherwise), so it is.
    """

    _destroyer = "speex_preprocess_state_destroy"

    def __init__(
        self,
        frame: int,
        rate: int,
        *,
        echo: EchoState | None = None,
        noise_suppress_db: int = -15,
        echo_suppress_db: int = -40,
        double_talk_suppress_db: int = -15,
    ) -> None:
        """`echo_suppress_db` holds while nobody talks here, `double_talk_suppress_db` while somebody does."""
        if frame <= 0 or rate <= 0:
            raise ValueError(f"frame {frame}, rate {rate}: want both > 0")
        self._lib = library()
        self.frame = frame
        super().__init__(self._lib.speex_preprocess_state_init(frame, rate))
        for request, value in (
            (_PP_SET_DENOISE, 1),
            (_PP_SET_NOISE_SUPPRESS, noise_suppress_db),
            (_PP_SET_ECHO_SUPPRESS, echo_suppress_db),
            (_PP_SET_ECHO_SUPPRESS_ACTIVE, double_talk_suppress_db),
        ):
            number = ctypes.c_int32(value)
            self._lib.speex_preprocess_ctl(self.pointer, request, ctypes.byref(number))
        self.listen_to(echo)

    def listen_to(self, echo: EchoState | None) -> None:
        """Take the residual echo's spectrum from `echo`, which is kept alive; None: from nobody."""
        if echo is not None and echo.frame != self.frame:
            raise ValueError(f"the canceller's frame is {echo.frame}, the preprocessor's {self.frame}")
        self._echo = echo
        self._lib.speex_preprocess_ctl(self.pointer, _PP_SET_ECHO_STATE, echo.pointer if echo else None)

    def run(self, block: Samples) -> None:
        """Suppress in place; shape (frame,). Raises ValueError for other shapes, or a closed canceller."""
        if self._echo is not None:
            _ = self._echo.pointer
        self._lib.speex_preprocess_run(self.pointer, _address(block, self.frame, "block"))


class Resampler(_Handle):
    """Mono int16 from `rate_in` to `rate_out` Hz, in blocks whose lengths stand in exactly that ratio."""

    _destroyer = "speex_resampler_destroy"

    def __init__(self, rate_in: int, rate_out: int, quality: int = 3) -> None:
        if rate_in <= 0 or rate_out <= 0 or not 0 <= quality <= 10:
            raise ValueError(f"{rate_in} Hz to {rate_out} Hz at quality {quality}: quality is 0 to 10")
        self._lib = library()
        self._rates = rate_in, rate_out
        super().__init__(self._lib.speex_resampler_init(1, rate_in, rate_out, quality, None))

    @property
    def latency(self) -> int:
        """Samples of output by which the output is late."""
        return int(self._lib.speex_resampler_get_output_latency(self.pointer))

    def process(self, block: Samples) -> Samples:
        """Shape (n,) to (n * rate_out / rate_in,). Raises ValueError when that is no whole number."""
        rate_in, rate_out = self._rates
        count, rest = divmod(block.size * rate_out, rate_in)
        if rest:
            raise ValueError(f"{block.size} samples at {rate_in} Hz are no whole number at {rate_out} Hz")
        source = _address(block, block.size, "block")
        out = np.zeros(count, np.int16)
        taken, given = ctypes.c_uint32(block.size), ctypes.c_uint32(count)
        self._lib.speex_resampler_process_int(
            self.pointer, 0, source, ctypes.byref(taken), _address(out, count, "out"), ctypes.byref(given)
        )
        return out
