"""A QEMU machine's control socket (the QEMU Machine Protocol), one command at a time."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.virtual_pi.errors import VirtualPiError


class Qmp:
    def __init__(self, path: Path, *, timeout: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """The command's result. Raises OSError when QEMU is gone, VirtualPiError when it refuses."""
        self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise VirtualPiError(
                    f"QEMU refuses {name}: {answer['error']['desc']}", hint="see the command"
                )
            if "return" in answer:
                return answer["return"]
        raise ConnectionError("QEMU closed its control socket")

    def monitor(self, line: str) -> str:
        """A line for the human monitor; what it prints, which is empty when a savevm went well."""
        return str(self.command("human-monitor-command", **{"command-line": line}))

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
