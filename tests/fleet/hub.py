"""The hub of a fleet of virtual Pis: a `pinna hub` on this machine."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.programs import program
from tests.support.waiting import eventually
from tests.virtual_pi.machine import GATEWAY

TOKEN = "a-token-for-the-fleet"


@dataclass(frozen=True)
class FleetHub:
    """Where a `pinna hub` is, or will be, for the Pis and for us, and its token."""

    port: int
    token_file: Path

    @classmethod
    def somewhere(cls, folder: Path) -> FleetHub:
        """At a port that is free now, its token in `folder`."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        token = folder / "token"
        token.touch(0o600)
        token.write_text(TOKEN)
        return cls(port, token)

    @property
    def for_pis(self) -> str:
        return f"http://{GATEWAY}:{self.port}"

    @property
    def for_us(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.for_us}/health", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
            return body

    def wait_for(self, *names: str) -> None:
        """Until all these devices have been heard for two seconds. An agent may wait 30 s before it calls."""

        def all_speak() -> bool:
            devices = self.health().get("devices", {})
            return all(devices.get(name, {}).get("frames_received", 0) > 100 for name in names)

        eventually(all_speak, 240, what=f"the hub hears {' and '.join(names)}")

    @contextmanager
    def running(self) -> Iterator[None]:
        command = ["pinna", "hub", "listen", "--host", "0.0.0.0", "--port", str(self.port), "--json"]
        command += ["--token-file", str(self.token_file)]
        with program(command, os.environ, self.token_file.parent, "hub") as running:

            def listens() -> bool:
                assert running.process.poll() is None, running.said()
                return any("address" in line for line in running.events())

            eventually(listens, what="the hub listens")
            yield
