"""The USB/IP server: the socket strip that virtual devices plug into. It runs on a thread of its own.

A device that is attached goes to who asks last: a guest that was reset asks again, and its old connection,
which nobody ended, would otherwise hold the device for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.sh04 import Sh04, Stream
from tests.virtual_pi.uac1 import MICROPHONE_ENDPOINT, SPEAKER_ENDPOINT
from tests.virtual_pi.usbip import (
    DevicesRequest,
    MalformedError,
    Unlink,
    devices_reply,
    import_reply,
    read_command,
    read_request,
    submitted,
    unlinked,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_GREETING_SECONDS = 10.0  # a connection that says nothing is closed


class UsbipServer:
    """`with UsbipServer() as server: server.plug(Sh04())`. All methods may be called from any thread."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._devices: dict[str, Sh04] = {}
        self._connections: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="usbip", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            self._loop.close()
            raise VirtualPiError(
                f"cannot listen on {host} port {port}: {error.strerror}",
                hint="choose another port; 0 takes a free one",
            ) from error
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> UsbipServer:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def plug(self, device: Sh04) -> str:
        """Put `device` on the bus; the answer is its bus id, by which a guest attaches it."""

        async def plug() -> str:
            self._last += 1
            busid = f"1-{self._last}"
            self._devices[busid] = device
            return busid

        return self._run(plug())

    def unplug(self, busid: str) -> None:
        """Pull the plug: the guest's connection ends, and the bus id is gone."""

        async def unplug() -> None:
            del self._devices[busid]
            connection = self._connections.pop(busid, None)
            if connection:
                connection.cancel()
                await asyncio.wait([connection])

        self._run(unplug())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._socket)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        busid = None
        try:
            request = await asyncio.wait_for(read_request(reader), _GREETING_SECONDS)
            if isinstance(request, DevicesRequest):
                infos = [d.info(name, int(name[2:])) for name, d in self._devices.items()]
                writer.write(devices_reply(infos))
                await writer.drain()
                return
            wanted = request.busid
            device = self._devices.get(wanted)
            if device is None:
                writer.write(import_reply(None))
                await writer.drain()
                return
            task = asyncio.current_task()
            assert task is not None
            before, busid = self._connections.get(wanted), wanted
            self._connections[busid] = task
            if before:
                before.cancel()
                await asyncio.wait([before])
            writer.write(import_reply(device.info(busid, int(busid[2:]))))
            await _serve(device, reader, writer)
        except MalformedError as error:
            log.warning("usbip.malformed peer=%s: %s", peer, error)
        except TimeoutError:
            log.warning("usbip.silent peer=%s", peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            log.info("usbip.closed peer=%s", peer)
        except asyncio.CancelledError:
            log.info("usbip.unplugged peer=%s", peer)
        finally:
            if busid and self._connections.get(busid) is asyncio.current_task():
                del self._connections[busid]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _serve(device: Sh04, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Commands of one attached device, until the connection ends; how, the exception tells."""
    streams: dict[int, Stream] = {}
    pacing: list[asyncio.Task[None]] = []
    waiting: set[int] = set()  # URBs that a frozen device does not answer

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("usbip.stream_failed: the device's source or room raised", exc_info=error)
            writer.close()  # which ends the reading below

    try:
        while True:
            command = await read_command(reader)
            if isinstance(command, Unlink):
                mine = command.victim in waiting
                waiting.discard(command.victim)
                mine = mine or any(stream.unlink(command.victim) for stream in streams.values())
                writer.write(unlinked(command, -errno.ECONNRESET if mine else 0))
            elif command.packets:
                if command.endpoint not in (MICROPHONE_ENDPOINT, SPEAKER_ENDPOINT):
                    raise MalformedError(f"isochronous packets on endpoint {command.endpoint}")
                if command.endpoint not in streams:
                    streams[command.endpoint] = Stream(device, writer.write)
                    pacing.append(asyncio.create_task(streams[command.endpoint].serve()))
                    pacing[-1].add_done_callback(ended)
                streams[command.endpoint].submit(command)
            elif device.frozen:
                waiting.add(command.sequence)
            elif command.endpoint == 0:
                status, data = device.control(command)
                writer.write(submitted(command, status, data if command.inbound else b""))
            else:
                writer.write(submitted(command, -errno.EPIPE))
    finally:
        for task in pacing:
            task.cancel()
        await asyncio.gather(*pacing, return_exceptions=True)
