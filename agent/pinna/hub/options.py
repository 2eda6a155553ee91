"""What the operator decides about a hub."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pinna.errors import ConfigError, UsageError

DEVICE_ID: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A device id becomes part of addresses and file names, so only these, and never `..`."""

DEVICE_ID_RULE: Final = (
    "a device_id is 1 to 64 letters, digits, `.`, `_` and `-`, begins with a letter or digit, and has no `..`"
)


def valid_device_id(text: str) -> bool:
    return DEVICE_ID.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether a host (to listen on, or named in a request) can only mean this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Raises UsageError or ConfigError for what does not go together."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    token: str = field(default="", repr=False)  # asked of everyone; required when `host` is not loopback
    mode: Literal["echo", "say", "record", "listen"] = "echo"
    echo_delay_ms: int = 0
    say_file: Path | None = None
    say_on: Literal["connect", "speech"] = "connect"  # when to begin: at once, or each time speech has ended
    say_repeat: bool = False  # with say_on="connect": again and again
    record_dir: Path | None = None
    voice: bool = False  # also answer calls over a WebSocket, and say back what is said there
    max_devices: int = 16
    silence_seconds: float = 5.0  # without any RTP or RTCP a device is gone

    def __post_init__(self) -> None:
        if self.mode == "say" and self.say_file is None:
            raise UsageError("The hub does not know what to say", hint="Give a WAV file.", permanent=True)
        if self.mode == "record" and self.record_dir is None:
            raise UsageError(
                "The hub does not know where to record to", hint="Give a directory.", permanent=True
            )
        if not self.token and not is_loopback(self.host):
            raise ConfigError(
                f"The hub would listen on {self.host}, open to everyone on the network",
                hint="Give it a token that devices must show, or let it listen on 127.0.0.1.",
                permanent=True,
            )
