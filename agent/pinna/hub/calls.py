"""The hub as a voice service: calls over a WebSocket, to whom it says back what they have said.

It does not listen while it speaks, lest it answer itself.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
from typing import Any, Final

import numpy as np
import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from pinna.flow.resample import Resampler
from pinna.frame import FRAME_SAMPLES, SAMPLE_RATE, Samples
from pinna.hub.voice import Voice, VoiceActivity
from pinna.links import voice_messages as messages
from pinna.links.voice_messages import Message, NonsenseError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PATH: Final = "/v1/connect"
RATE: Final = 24_000
"""Of what we say, in hertz."""

CHUNK: Final = RATE * 40 // 1000
MAX_SPEECH_FRAMES: Final = 20 * 50
"""Twenty seconds are said back, and no more."""

BEFORE_FRAMES: Final = 15
"""How much from before the detector's onset belongs to the speech."""


ROOM_FRAMES: Final = 35
"""For so long after our own speech it may still come back from the room."""


class Calls:
    """Handles GET `PATH`. With a `token`, a call must bear it as `id_token`."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._open: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        given = request.query.get("id_token", "")
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPUnauthorized(text="this hub asks for its token as id_token")
        wire = web.WebSocketResponse(max_msg_size=1 << 20, heartbeat=20.0)
        await wire.prepare(request)
        self._open.add(wire)
        log.info("hub.call", client=request.query.get("client_name", "")[:64])
        try:
            await _Caller(wire).talk()
        except (NonsenseError, ConnectionError) as error:
            log.warning("hub.call_failed", reason=str(error))
            await wire.close(code=WSCloseCode.UNSUPPORTED_DATA)
        finally:
            self._open.discard(wire)
            log.info("hub.call_ended")
        return wire

    async def close(self, _app: web.Application) -> None:
        """Hang up on everyone."""
        await asyncio.gather(*(wire.close(code=WSCloseCode.GOING_AWAY) for wire in tuple(self._open)))


class _Caller:
    def __init__(self, wire: web.WebSocketResponse) -> None:
        self._wire = wire
        self._names: dict[str, str | None] = {"session_id": secrets.token_hex(8), "call_id": None}
        self._in: Resampler | None = None
        self._out = Resampler(SAMPLE_RATE, RATE)
        self._voice = VoiceActivity()
        self._rest = np.zeros(0, np.int16)  # less than a frame
        self._heard: list[Samples] = []
        self._deaf = 0  # frames: while we speak, what we hear may be ourselves

    async def talk(self) -> None:
        """Raises NonsenseError."""
        await self._send("initialize", {})
        async for got in self._wire:
            if got.type is not WSMsgType.TEXT:
                raise NonsenseError("is binary")
            message = messages.read(got.data)
            match message.type:
                case "call_connect":
                    await self._accept(message)
                case "audio":
                    await self._hear(messages.samples_of(message))
                case "ping":
                    await self._send("ping_response", {}, message.request_id)
                case "call_disconnect":
                    await self._send("call_disconnect_response", {}, message.request_id)
                    await self._wire.close()

    async def _accept(self, message: Message) -> None:
        self._in = Resampler(messages.rate_of(message), SAMPLE_RATE)
        self._names["call_id"] = secrets.token_hex(8)
        answer = {"sample_rate": RATE, "audio_codec": "none"}
        await self._send("call_connect_response", answer, message.request_id)

    async def _hear(self, piece: Samples) -> None:
        if self._in is None:
            raise NonsenseError("is sound before a call")
        sound = np.concatenate([self._rest, self._in.process(piece)])
        whole = len(sound) - len(sound) % FRAME_SAMPLES
        self._rest = sound[whole:]
        for frame in sound[:whole].reshape(-1, FRAME_SAMPLES):
            if self._deaf:
                self._deaf -= 1
                continue
            self._heard.append(frame)
            voice = self._voice.hear(frame)
            if voice is Voice.END:
                await self._say_back()
            elif voice is Voice.SILENT:
                del self._heard[:-BEFORE_FRAMES]
            else:
                del self._heard[:-MAX_SPEECH_FRAMES]

    async def _say_back(self) -> None:
        self._deaf = len(self._heard) + ROOM_FRAMES
        speech = self._out.process(np.concatenate(self._heard))
        self._heard.clear()
        log.info("hub.call_answered", seconds=round(len(speech) / RATE, 1))
        for at in range(0, len(speech), CHUNK):
            data = base64.b64encode(speech[at : at + CHUNK].astype("<i2").tobytes()).decode()
            await self._send("audio", {"audio_data": data})

    async def _send(self, kind: str, content: dict[str, Any], request: str = "") -> None:
        body = {"type": kind, **self._names, "content": content}
        await self._wire.send_str(json.dumps({**body, "request_id": request} if request else body))
