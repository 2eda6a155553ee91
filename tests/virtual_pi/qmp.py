"""A QEMU machine's control socket (the QEMU Machine Protocol), one command at a time."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.virtual_pi.errors import VirtualPiError


class Qmp:
    def __init__(self, path: Path, *, timeout: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._timeout = timeout
        self._unread = b""
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._message(timeout)  # the greeting
            self.command("qmp_capabilities")
        except OSError:  # QEMU may end right after it opened the socket
            self._socket.close()
            raise

    def command(self, name: str, **arguments: Any) -> Any:
        """The command's result. Raises OSError when QEMU is gone, VirtualPiError when it refuses."""
        self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while True:
            answer = self._message(self._timeout)
            if "error" in answer:
                raise VirtualPiError(
                    f"QEMU refuses {name}: {answer['error']['desc']}", hint="see the command"
                )
            if "return" in answer:
                return answer["return"]

    def wait_event(self, name: str, timeout: float) -> None:
        """Until QEMU tells of the event `name`. Raises TimeoutError, or ConnectionError when QEMU ends."""
        deadline = time.monotonic() + timeout
        while self._message(max(0.001, deadline - time.monotonic())).get("event") != name:
            pass

    def _message(self, timeout: float) -> dict[str, Any]:
        """The next answer or event. What came before a time-out is kept for the next call."""
        self._socket.settimeout(timeout)
        while b"\n" not in self._unread:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("QEMU closed its control socket")
            self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def monitor(self, line: str) -> str:
        """A line for the human monitor; what it prints, which is empty when a savevm went well."""
        return str(self.command("human-monitor-command", **{"command-line": line}))

    def close(self) -> None:
        self._socket.close()
