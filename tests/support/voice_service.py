"""A voice service of one process's own: a real WebSocket, both dialects, and every fault by script."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from pinna.frame import Samples


@dataclass
class VoiceCall:
    """One call as the service sees it."""

    wire: web.WebSocketResponse
    query: dict[str, str]
    headers: dict[str, list[str]]
    dialect: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    connected: bool = False
    over: bool = False
    said: int = 0

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def audio(self) -> list[bytes]:
        """Each chunk of sound that came, PCM16."""
        return [
            base64.b64decode(message["content"]["audio_data"])
            for message in self.messages
            if message["type"] == "audio"
        ]

    @property
    def heard(self) -> Samples:
        return np.frombuffer(b"".join(self.audio), "<i2")

    async def send(self, kind: str, content: Any = None, **more: Any) -> None:
        names = {"session_id": "s-1", "call_id": "c-1"}
        if self.dialect == "content":
            body = {"type": kind, "content": {**(content or {}), "session_id": "s-1"}, **more}
            if kind == "call_connect_response":
                body["call_id"] = "c-1"
        else:
            body = {"type": kind, **names, "content": content or {}, **more}
        await self.wire.send_str(json.dumps(body))

    async def say(self, samples: Samples) -> None:
        self.said += len(samples)
        await self.send("audio", {"audio_data": base64.b64encode(samples.tobytes()).decode()})


Script = Callable[[VoiceCall], Awaitable[None]]


class VoiceService:
    """`async with VoiceService() as service:` -- `service.url` is what a link calls.

    `dialect`: session names on the "envelope" or in the "content". `instead` speaks in the place of the
    usual beginning of a call. `status` refuses to begin one at all; `tokens` refuses others than these.
    `answers_goodbye`: whether a good-bye is answered. A service that is not `reading` reads nothing after the
    beginning, behind a small buffer.
    """

    def __init__(
        self,
        dialect: str = "envelope",
        *,
        rate: int | None = 24_000,
        instead: Script | None = None,
        status: int = 0,
        tokens: set[str] | None = None,
        answers_goodbye: bool = True,
        answers_pings: bool = True,
        reading: bool = True,
        port: int = 0,
    ) -> None:
        self.dialect = dialect
        self.calls: list[VoiceCall] = []
        self.refused = 0
        self.read_on = asyncio.Event()
        self._rate = rate
        self._instead = instead
        self.status = status
        self._tokens = tokens
        self._answers_goodbye = answers_goodbye
        self._answers_pings = answers_pings
        self._port = port
        if reading:
            self.read_on.set()
        self._small = not reading

    async def __aenter__(self) -> VoiceService:
        app = web.Application()
        app.router.add_get("/v1/connect", self._connect)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        listener = socket.socket()
        if self._small:  # what is accepted inherits it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        await web.SockSite(self._runner, listener).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in self.calls:
            await call.wire.close()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/connect"

    @property
    def call(self) -> VoiceCall:
        return self.calls[-1]

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        if len(request.headers.getall("Origin", [])) != 1:
            self.refused += 1
            return web.Response(status=400, text="one Origin, please")
        token = request.query.get("id_token", "")
        if self.status or (self._tokens is not None and token not in self._tokens):
            self.refused += 1
            return web.Response(status=self.status or 401)
        wire = web.WebSocketResponse(max_msg_size=1 << 20)
        await wire.prepare(request)
        headers = {name: request.headers.getall(name) for name in request.headers}
        call = VoiceCall(wire, dict(request.query), headers, self.dialect)
        self.calls.append(call)
        try:
            if self._instead is not None:
                await self._instead(call)
            else:
                await self._begin(call)
            await self.read_on.wait()
            async for message in wire:
                if message.type is WSMsgType.TEXT:
                    await self._take(call, json.loads(message.data))
        finally:
            call.over = True
        return wire

    async def _begin(self, call: VoiceCall) -> None:
        await call.send("initialize")
        for _ in range(2):
            call.messages.append(await call.wire.receive_json())
        await self.accept(call)

    async def accept(self, call: VoiceCall) -> None:
        content: dict[str, Any] = {"audio_codec": "none"}
        if self._rate is not None:
            content["sample_rate"] = self._rate
        await call.send("call_connect_response", content, request_id=call.messages[-1]["request_id"])
        call.connected = True

    async def _take(self, call: VoiceCall, message: dict[str, Any]) -> None:
        call.messages.append(message)
        if message["type"] == "ping" and self._answers_pings:
            await call.send("ping_response", request_id=message["request_id"])
        elif message["type"] == "call_disconnect" and self._answers_goodbye:
            await call.send("call_disconnect_response", request_id=message["request_id"])
