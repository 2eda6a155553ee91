"""What goes over the WebSocket of a voice service: JSON envelopes, and PCM16 in base64.

Written and read as several public clients of such services do (docs/voice.md has the sequence). They do not
agree in everything, so reading is lenient: the session's name may stand on the envelope or in the content,
and a `call_id` may be null or absent.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pinna.config import VoiceConfig
from pinna.frame import Samples

DEFAULT_RATE: Final = 24_000
"""Of the service's voice, in hertz, when its answer to a call says nothing."""

RATES: Final = range(8_000, 48_001)


@dataclass(frozen=True, slots=True)
class Message:
    """One envelope, read. What is absent or of the wrong type is empty."""

    type: str
    session_id: str
    call_id: str
    request_id: str
    content: dict[str, Any]


class NonsenseError(ValueError):
    """Not a message; the text says why, without repeating what came."""


def read(text: str) -> Message:
    """Raises NonsenseError."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        raise NonsenseError("is not JSON") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("type"), str):
        raise NonsenseError('is not a JSON object with a "type"')
    content = whole.get("content")
    content = content if isinstance(content, dict) else {}

    def name(key: str) -> str:
        value = whole.get(key) or content.get(key)
        return value if isinstance(value, str) else ""

    return Message(whole["type"], name("session_id"), name("call_id"), name("request_id"), content)


def samples_of(message: Message) -> Samples:
    """The sound of an `audio` message, mono, int16. Raises NonsenseError."""
    data = message.content.get("audio_data")
    if not isinstance(data, str):
        raise NonsenseError("has no audio_data")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise NonsenseError("has audio_data that is not base64") from None
    if len(raw) % 2:
        raise NonsenseError("has half a sample")
    return np.frombuffer(raw, "<i2").astype(np.int16, copy=False)


def rate_of(response: Message) -> int:
    """Of the service's voice, in hertz. Raises NonsenseError."""
    rate = response.content.get("sample_rate", DEFAULT_RATE)
    if not isinstance(rate, int) or isinstance(rate, bool) or rate not in RATES:
        raise NonsenseError("names a sample rate that is none")
    return rate


class Writer:
    """The messages of one call. `session_id` and `call_id` are the service's, once it has told them."""

    def __init__(self, config: VoiceConfig) -> None:
        self._config = config
        self.session_id = ""
        self.call_id: str | None = None

    def location(self) -> str:
        place = {"latitude": 0, "longitude": 0, "address": "", "timezone": self._config.timezone}
        return self._envelope("client_location_state", place)

    def connect(self, *, again: bool) -> tuple[str, str]:
        """Message and request id."""
        config = self._config
        chosen = {"preset": config.character, "character": config.character} if config.character else {}
        request = secrets.token_hex(16)
        content = {
            "sample_rate": config.sample_rate,
            "audio_codec": "none",
            "reconnect": again,
            "is_private": False,
            "client_name": config.client_name,
            "settings": chosen,
            "client_metadata": {
                "language": config.language,
                "user_agent": config.client_name,
                "mobile_browser": False,
                "media_devices": [],
            },
        }
        return self._envelope("call_connect", content, request), request

    def audio(self, samples: Samples) -> str:
        data = base64.b64encode(samples.astype("<i2", copy=False).tobytes()).decode()
        return self._envelope("audio", {"audio_data": data})

    def ping(self) -> str:
        return self._envelope("ping", "ping", secrets.token_hex(16))

    def pong(self, request: str) -> str:
        return self._envelope("ping_response", "pong", request)

    def disconnect(self) -> tuple[str, str]:
        """Message and request id."""
        request = secrets.token_hex(16)
        return self._envelope("call_disconnect", {"reason": "user_request"}, request), request

    def _envelope(self, kind: str, content: object, request: str | None = None) -> str:
        body = {
            "type": kind,
            "session_id": self.session_id or None,
            "call_id": self.call_id,
            "content": content,
        }
        return json.dumps(body if request is None else {**body, "request_id": request}, separators=(",", ":"))
