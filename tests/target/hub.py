"""What the hub says of a device."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.target.proof import SILENCE_DBFS

PATIENCE_SECONDS = 20


class HubSilent(Exception):  # noqa: N818  a state of the hub rather than an error of the tests
    """The hub does not tell. The message says why, and what helps."""


@dataclass(frozen=True)
class Hub:
    """A hub as this machine reaches it. The token comes from a file, never from the command line."""

    url: str
    token_file: Path | None

    def health(self) -> dict[str, Any]:
        """The body of /health. Raises HubSilent."""
        address = f"{self.url.rstrip('/')}/health"
        try:
            request = urllib.request.Request(address)
            if self.token_file is not None:
                request.add_header("Authorization", f"Bearer {self.token_file.read_text().strip()}")
            with urllib.request.urlopen(request, timeout=10) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            raise HubSilent(f"{address} answers {error.code}. Is --hub-token-file the hub's?") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise HubSilent(f"no hub answers at {address}: {reason}. Is --hub-url right?") from error
        if not isinstance(body, dict) or not {"active_devices", "frames_forwarded"} <= body.keys():
            raise HubSilent(f"{address} answers, but not as a hub does. Is --hub-url right?")
        return body

    def watch(self, device: str, since: dict[str, Any]) -> dict[str, Any]:
        """Health, once `device` has been heard since the health `since`; the latest when it is not."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            now = self.health()
            if _heard(now, since, device) or time.monotonic() > deadline:
                return now
            time.sleep(0.2)


def _heard(now: dict[str, Any], since: dict[str, Any], device: str) -> bool:
    if "devices" not in now:  # a hub that names nobody
        return bool(now["frames_forwarded"] > since["frames_forwarded"])
    return frames(now, device) > frames(since, device) and level(now, device) > SILENCE_DBFS


def level(health: dict[str, Any], device: str) -> float:
    """Of what the hub hears from a device, in dBFS; it falls by 60 dB a second."""
    return float(health.get("devices", {}).get(device, {}).get("level_dbfs", -math.inf))


def frames(health: dict[str, Any], device: str) -> int:
    """How many frames of a device the hub has had since that connected; 0 when it does not know it."""
    return int(health.get("devices", {}).get(device, {}).get("frames_received", 0))
