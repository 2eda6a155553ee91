"""The audio component: from sound card to published frames, one stream's life per `run`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from pinna.audio import portaudio
from pinna.audio.aec import EchoCanceller, EchoState
from pinna.audio.card import NO_OUTPUT, Format, choose_format, find_card, list_cards
from pinna.audio.dsp import DspStats, live
from pinna.audio.duplex import CaptureStats, DuplexStream, device_opens
from pinna.audio.playback import PlaybackQueue
from pinna.config import AudioConfig
from pinna.errors import DeviceError
from pinna.flow.bridge import Bridge
from pinna.frame import FRAME_MS, Frame

BRIDGE_FRAMES = 10
"""200 ms: how late the event loop may be before frames are dropped."""

JOIN_SECONDS = 2.0


class AudioEngine:
    """Opens the devices, runs the DSP thread, publishes clean frames on the event loop.

    `run` ends with an error whenever the stream does; run again, it initialises PortAudio afresh, because a
    card that was lost and found is a new card to PortAudio. The echo canceller and all counters live on.
    """

    def __init__(
        self,
        config: AudioConfig,
        make_canceller: Callable[[], EchoCanceller],
        playback: PlaybackQueue,
        publish: Callable[[Frame], None],
        streaming: Callable[[], None] = lambda: None,
    ) -> None:
        """`streaming` is called on the event loop when the first frame of a stream has come."""
        self.capture = CaptureStats()
        self.dsp = DspStats()
        self.streams = 0  # opened so far
        self.bridge_dropped = 0
        self.format: Format | None = None  # of the stream that is open
        self._config = config
        self._make_canceller = make_canceller
        self._canceller: EchoCanceller | None = None
        self._playback = playback
        self._publish = publish
        self._streaming = streaming
        self._silent = True
        self._last_frame_at = 0.0
        self._thread: threading.Thread | None = None

    @property
    def echo(self) -> EchoState | None:
        """None until the canceller has started."""
        return self._canceller.state if self._canceller else None

    def _deliver(self, frame: Frame) -> None:
        self._last_frame_at = frame.captured_at
        if self._silent:
            self._silent = False
            self._streaming()
        self._publish(frame)

    async def run(self) -> None:
        """Stream until the device fails. Raises DeviceError, PortAudioMissingError, EchoCancellerError."""
        if self._thread is not None and self._thread.is_alive():
            raise DeviceError(
                "the sound system does not give the lost device back",
                hint="Start the sound server (PulseAudio, PipeWire) again; if that does not help, the agent",
            )
        if self._canceller is None:
            self._canceller = self._make_canceller()
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        stop = threading.Event()
        bridge = Bridge(loop, self._deliver, BRIDGE_FRAMES)

        def finish(error: Exception | None) -> None:
            if over.done():
                return
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        def tell(error: Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, error)

        def body() -> None:
            error: Exception | None = None
            try:
                self._stream(bridge, stop, tell)
            except Exception as caught:  # noqa: BLE001 - not swallowed: raised again from `run`
                error = caught
            tell(error)

        thread = self._thread = threading.Thread(target=body, name="pinna-dsp", daemon=True)
        thread.start()
        try:
            await asyncio.shield(over)
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, JOIN_SECONDS)
            if thread.is_alive():
                portaudio.abandon()
            self.format, self._silent = None, True
            self.bridge_dropped += bridge.dropped
            if over.done() and not over.cancelled():
                over.exception()  # seen: a late error while we were being cancelled needs no second report

    def close(self) -> None:
        """After the last `run`."""
        if self._canceller is not None:
            self._canceller.close()
            self._canceller = None

    def _stream(
        self, bridge: Bridge[Frame], stop: threading.Event, tell: Callable[[Exception], None]
    ) -> None:
        """Open, live, close: the DSP thread's whole life. A loss is told before closing, which may hang."""
        assert self._canceller is not None
        sounddevice = portaudio.refresh()
        cards = list_cards(sounddevice)
        microphone = find_card(self._config.input, "input", cards)
        speaker = None
        if self._config.output != NO_OUTPUT:
            speaker = find_card(self._config.output, "output", cards)
        form = choose_format(microphone, speaker, device_opens(sounddevice))
        if self._last_frame_at:  # what was not captured meanwhile is a gap in the sequence
            self.capture.skipped += round((time.monotonic() - self._last_frame_at) * 1000 / FRAME_MS)
            self._canceller.discontinuity()
        far = self._playback.attach(form.rate)
        stream = DuplexStream(sounddevice, form, self._config.latency_ms, far, self.capture)
        try:
            self.streams += 1
            self.format = form
            live(stream, form, self._canceller, bridge.post, stop, self.dsp)
        except Exception as error:
            tell(error)
            raise
        finally:
            stream.close()
