"""One call to a voice service: what is said on an open WebSocket, from the first message to good-bye.

Whatever the service sends is a stranger's: lengths are bounded, nonsense is counted and, to a limit, borne.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
import structlog

from pinna.config import VoiceConfig
from pinna.errors import HubAnswerError, HubUnreachableError, PinnaError
from pinna.flow.fanout import Subscription
from pinna.flow.resample import Resampler
from pinna.frame import FRAME_MS, SAMPLE_RATE
from pinna.links import Door, LinkStats, Speaker
from pinna.links import voice_messages as messages
from pinna.links.pieces import Pieces
from pinna.links.playout import Playout
from pinna.links.voice_messages import Message, NonsenseError
from pinna.metrics import Window

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_NONSENSE: Final = 100
"""In one call."""

MAX_UNSENT_BYTES: Final = 12_000
"""A quarter of a second of 16 kHz in base64. While more than that waits, nothing more is sent."""

SEND_BUFFER_BYTES: Final = 16_384
"""Of the kernel, which would otherwise hold seconds of sound for a slow service."""

LATE_SECONDS: Final = 0.5
"""Live sound that comes to be sent later than this is dropped: overload must not turn into delay."""

SPEAKER_MS: Final = 60
"""How much the loudspeaker's queue is kept filled."""

REFUSED: Final = frozenset({1008, 3000, 3003, 4001, 4003, 4401, 4403})
"""Close codes for bad credentials: policy violation, the registered ones, and HTTP's in the private range."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    answer: float = 10.0  # for connecting, and for each message that a call begins with
    ping: float = 5.0
    silent: float = 15.0  # nothing at all was heard, not even an answer to a ping
    goodbye: float = 3.0


PATIENCE: Final = Patience()


class RejectedError(Exception):
    """The service does not want the token; the text says how it said so."""


class Wire(aiohttp.ClientWebSocketResponse):
    """One that knows how much it has not sent yet: aiohttp would wait only after 64 KiB, which is seconds."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        response: aiohttp.ClientResponse = arguments[3]
        assert response.connection is not None
        self._transport = response.connection.transport
        self.abandon = response.close  # whatever the other side still wanted to say

    @property
    def unsent_bytes(self) -> int:
        if self._transport is None or self._transport.is_closing():
            return 0
        return self._transport.get_write_buffer_size()

    def keep_little(self) -> None:
        """Ask the kernel for a small buffer."""
        connection = self.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


class Call:
    """One WebSocket, once it is open."""

    def __init__(
        self,
        config: VoiceConfig,
        wire: Wire,
        shown: str,
        microphone: Subscription,
        speaker: Speaker,
        patience: Patience,
    ) -> None:
        self.hung_up = False
        self._wire = wire
        self._shown = shown
        self._microphone = microphone
        self._speaker = speaker
        self._patience = patience
        self._masked = config.log_text == "masked"
        self._rate = config.sample_rate
        self._pieces = Pieces(self._rate)
        self._from_service: Resampler | None = None
        self._writer = messages.Writer(config)
        self._playout = Playout()
        self._heard_at = time.monotonic()
        self._live_since = 0.0
        self._connected = False
        self._nonsense = 0
        self._sent = 0  # frames
        self._delays = Window(500)
        self._ending: str | None = None  # the request whose answer ends the call
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, *, again: bool) -> None:
        """The messages that a call begins with. Raises PinnaError, RejectedError."""
        first = await self._expect("initialize")
        self._writer.session_id = first.session_id
        await self._wire.send_str(self._writer.location())
        text, request = self._writer.connect(again=again)
        await self._wire.send_str(text)
        response = await self._expect("call_connect_response")
        if response.request_id not in ("", request):
            raise self._nonsensical("answers another call than ours")
        self._writer.call_id = response.call_id or None
        self._writer.session_id = self._writer.session_id or response.session_id
        try:
            rate = messages.rate_of(response)
        except NonsenseError as error:
            raise self._nonsensical(str(error)) from None
        self._from_service = Resampler(rate, SAMPLE_RATE, steady=True)
        self._live_since = time.monotonic()
        self._connected = True
        log.info("voice.connected", service=self._shown, service_rate=rate, our_rate=self._rate)

    async def talk(self, door: Door) -> None:
        """Until the door is shut or the service hangs up. Raises PinnaError, RejectedError."""
        ways: list[Coroutine[Any, Any, None]] = [
            self._receive(),
            self._send(),
            self._play(),
            self._ping(),
            door.shut(),
        ]
        self._tasks = [asyncio.create_task(way) for way in ways]
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def end(self) -> None:
        """Say good-bye, if there is still someone to say it to, and close. Raises nothing."""
        receiving = self._tasks[0] if self._tasks else None
        for task in self._tasks[1:]:
            task.cancel()
        try:
            async with asyncio.timeout(self._patience.goodbye):
                if receiving is not None and not receiving.done():
                    text, self._ending = self._writer.disconnect()
                    await self._wire.send_str(text)
                    await asyncio.wait([receiving])
                await self._wire.close()
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass  # it will notice by itself
        self._wire.abandon()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connected:
            log.info(
                "voice.disconnected",
                service=self._shown,
                hung_up=self.hung_up,
                nonsense=self._nonsense,
                frames_trimmed=self._playout.trimmed,
            )

    def add_to(self, past: LinkStats) -> LinkStats:
        return replace(
            past,
            connected=self._connected,
            frames_sent=past.frames_sent + self._sent,
            frames_received=past.frames_received + self._playout.frames,
            send_delay_p50_ms=self._delays.p50,
            send_delay_p99_ms=self._delays.p99,
        )

    async def _expect(self, kind: str) -> Message:
        """The next message of this kind; others are taken care of."""
        try:
            async with asyncio.timeout(self._patience.answer):
                while (message := await self._next()).type != kind:
                    if message.type == "call_connect_response":
                        raise self._nonsensical("answers a call before it was made")
                    await self._handle(message)
                    if self.hung_up:
                        raise HubUnreachableError(
                            f"the voice service at {self._shown} does not take our call",
                            hint="It may be busy; trying goes on while there is a session",
                        )
                return message
        except TimeoutError:
            raise self._nonsensical(f"sends no {kind} within {self._patience.answer:g} s") from None

    async def _receive(self) -> None:
        while not self.hung_up:
            message = await self._next()
            if message.type == "call_disconnect_response" and self._ending is not None:
                if message.request_id in ("", self._ending):
                    return
            else:
                await self._handle(message)

    async def _handle(self, message: Message) -> None:
        match message.type:
            case "audio":
                self._hear(message)
            case "ping":
                await self._wire.send_str(self._writer.pong(message.request_id))
            case "chat":
                text = str(message.content.get("text") or message.content.get("message") or "")
                words = f"*** ({len(text)} characters)" if self._masked else text[:500]
                log.debug("voice.chat", text=words, author=str(message.content.get("author", ""))[:40])
            case "call_disconnect":
                self.hung_up = True
            case _:
                pass  # ping_response, and what these services may yet come up with

    def _hear(self, message: Message) -> None:
        if self._from_service is None:
            return  # before the call has begun
        try:
            self._playout.put(self._from_service.process(messages.samples_of(message)))
        except NonsenseError as error:
            self._bear(str(error))

    async def _next(self) -> Message:
        """The next message that makes sense. Raises PinnaError, RejectedError when there will be none."""
        while True:
            got = await self._wire.receive()
            self._heard_at = time.monotonic()
            match got.type:
                case aiohttp.WSMsgType.TEXT:
                    try:
                        return messages.read(got.data)
                    except NonsenseError as error:
                        self._bear(str(error))
                case aiohttp.WSMsgType.BINARY:
                    self._bear("is binary")
                case aiohttp.WSMsgType.ERROR:
                    if getattr(got.data, "code", None) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                        raise self._too_long()
                    raise self._nonsensical("is no WebSocket message")
                case _:
                    raise self._closed(self._wire.close_code)

    def _bear(self, what: str) -> None:
        self._nonsense += 1
        say = log.warning if self._nonsense == 1 else log.debug
        say("voice.nonsense", service=self._shown, message=what, count=self._nonsense)
        if self._nonsense >= MAX_NONSENSE:
            raise self._nonsensical(what + f", like {MAX_NONSENSE} others of this call")

    def _closed(self, code: int | None) -> Exception:
        if code in REFUSED:
            return RejectedError(f"closed with code {code}")
        if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:  # we closed it, and whoever sends may know first
            return self._too_long()
        return HubUnreachableError(
            f"the voice service at {self._shown} has closed the connection (code {code or 'none'})",
            hint="Check the network; trying goes on while there is a session",
        )

    def _too_long(self) -> HubAnswerError:
        return self._nonsensical(f"is longer than {MAX_MESSAGE_BYTES >> 20} MiB")

    def _nonsensical(self, what: str) -> HubAnswerError:
        return HubAnswerError(
            f"what {self._shown} says makes no sense: its message {what}"
            if what.startswith(("is ", "has "))
            else f"the voice service at {self._shown} {what}",
            hint="Check `hub.url` and `hub.dialect`: is it a voice service of this kind?",
        )

    async def _send(self) -> None:
        while True:
            while self._wire.unsent_bytes > MAX_UNSENT_BYTES:  # noqa: ASYNC110 -- a transport sets no event
                await asyncio.sleep(FRAME_MS / 2000)  # meanwhile the subscription drops the oldest
            try:
                frame = await self._microphone.get()
            except StopAsyncIteration:
                raise PinnaError("the microphone's stream has ended", hint="Start the agent again") from None
            live = frame.captured_at > self._live_since  # if not: said while the call was made
            if live and time.monotonic() - frame.captured_at > LATE_SECONDS:
                self._microphone.dropped += 1
                continue
            piece = self._pieces.put(frame.samples)
            if piece is not None:
                await self._say(self._writer.audio(piece))
                self._delays.add((time.monotonic() - frame.captured_at) * 1000)
            self._sent += 1

    async def _say(self, text: str) -> None:
        try:
            await self._wire.send_str(text)
        except (aiohttp.ClientError, OSError):
            raise self._closed(self._wire.close_code) from None

    async def _play(self) -> None:
        """Our clock feeds the loudspeaker's queue, whose depth says whose clock is the faster."""
        due = time.monotonic()
        while True:
            queued = self._speaker.queued_ms
            for _ in range(0 if queued > SPEAKER_MS else 1 if queued else 2):
                samples = self._playout.frame(queued=queued > 0)
                if samples is not None:
                    self._speaker.play(samples)
            due = max(due + FRAME_MS / 1000, time.monotonic() - 5 * FRAME_MS / 1000)
            await asyncio.sleep(due - time.monotonic())

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._patience.ping)
            if time.monotonic() - self._heard_at > self._patience.silent:
                raise HubUnreachableError(
                    f"the voice service at {self._shown} has fallen silent",
                    hint="Check the network; trying goes on while there is a session",
                )
            await self._say(self._writer.ping())
