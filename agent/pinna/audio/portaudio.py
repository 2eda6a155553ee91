"""PortAudio, loaded late and started afresh when the cards have changed.

PortAudio freezes its list of devices when it is initialised: a card that was lost and found again exists for
it only after terminate + initialise. All calls here block; the event loop makes them in a worker thread.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import ctypes.util
import os
import re
from collections import deque
from types import ModuleType
from typing import Any, Final

from pinna.errors import PortAudioMissingError

ALSA_COMPLAINTS: Final[deque[str]] = deque(maxlen=8)
"""What libasound said last: the evidence behind a PortAudio error number."""

_keep: Any = None  # the C side holds a bare pointer to this callback: it must outlive every call


def load() -> ModuleType:
    """The `sounddevice` module, PortAudio initialised. Raises PortAudioMissingError."""
    _listen_to_alsa()
    try:
        import sounddevice  # noqa: PLC0415 - importing it starts PortAudio, which `pinna --help` must not need
    except OSError as error:
        raise PortAudioMissingError(
            "the PortAudio library is not installed",
            hint="Install it: sudo apt install libportaudio2",
            permanent=True,
        ) from error
    except Exception as error:
        raise PortAudioMissingError(
            f"PortAudio does not start ({error}){_evidence()}",
            hint="Look for a mistake in /etc/asound.conf or ~/.asoundrc: `aplay -L` names the line",
        ) from error
    module: ModuleType = sounddevice
    return module


def refresh() -> ModuleType:
    """Like `load`, with the list of devices read anew. No stream may be open."""
    sounddevice = load()
    with contextlib.suppress(sounddevice.PortAudioError):  # not initialised: a start that failed half-way
        sounddevice._terminate()
    ALSA_COMPLAINTS.clear()
    try:
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise PortAudioMissingError(
            f"PortAudio does not start ({error}){_evidence()}",
            hint="Look for a mistake in /etc/asound.conf or ~/.asoundrc: `aplay -L` names the line",
        ) from error
    return sounddevice


def abandon() -> None:
    """Let the process end without PortAudio: a stream that cannot be closed would hold it up for ever."""
    atexit.unregister(load()._exit_handler)


def _evidence() -> str:
    return f"; ALSA says: {ALSA_COMPLAINTS[-1]}" if ALSA_COMPLAINTS else ""


def _listen_to_alsa() -> None:
    """Keep libasound's complaints instead of letting it print them over ours (snd_lib_error_set_handler)."""
    global _keep  # noqa: PLW0603 - one handler for the process, as in libasound itself
    if _keep is not None:
        return
    name = ctypes.util.find_library("asound")
    if name is None:
        return

    # void (*)(const char *file, int line, const char *function, int err, const char *fmt, ...). The variable
    # part is taken as machine words: on Linux, x86-64 and arm64 both pass pointers and ints that way.
    text, number, word = ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    prototype = ctypes.CFUNCTYPE(None, text, number, text, number, text, word, word, word)

    def keep(_file: bytes, _line: int, _function: bytes, errno: int, form: bytes, *words: int) -> None:
        ALSA_COMPLAINTS.append(_rendered(form, words) + (f": {os.strerror(abs(errno))}" if errno else ""))

    handler = prototype(keep)
    ctypes.CDLL(name).snd_lib_error_set_handler(handler)
    _keep = handler


def _rendered(form: bytes, words: tuple[int, ...]) -> str:
    """Like printf, for what libasound's messages hold: strings and ints, the first three of them."""
    arguments = iter(words)

    def conversion(match: re.Match[bytes]) -> bytes:
        word = next(arguments, None)
        if word is None:
            return b"..."
        if match[1] == b"s":
            return ctypes.c_char_p(word).value or b"(null)"
        return str(ctypes.c_int(word).value).encode()

    return re.sub(rb"%[-+ #0-9.]*[hlz]*([sdiuxXc])", conversion, form).decode(errors="replace").strip()
