"""What the operator decides: frozen dataclasses <- TOML <- environment <- flags."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class AudioConfig:
    input: str = "default"  # PortAudio name, part of a name, index, or `hw:X,Y`
    output: str = "default"
    latency_ms: int = 60  # asked of PortAudio, each way


@dataclass(frozen=True, slots=True)
class EchoConfig:
    engine: Literal["speexdsp", "webrtc", "none"] = "speexdsp"
    rate: Literal[16000, 48000] = 16000  # Hz, of the canceller's core
    tail_ms: int = 100


@dataclass(frozen=True, slots=True)
class HubConfig:
    url: str = "http://127.0.0.1:8080"
    dialect: Literal["connect", "whip"] = "connect"
    token_file: str = ""  # a bearer token; the only way to give one besides PINNA_HUB_TOKEN
    ice_servers: tuple[str, ...] = ()
    bitrate: int = 24_000  # bit/s, Opus
    complexity: int = 0  # Opus, 0..10
    reconnect_seconds: float = 3.0
    reconnect_max_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class HttpConfig:
    host: str = "127.0.0.1"
    port: int = 8081
    token_file: str = ""  # required when `host` is not loopback


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


@dataclass(frozen=True, slots=True)
class Config:
    device_id: str = field(default_factory=socket.gethostname)
    audio: AudioConfig = field(default_factory=AudioConfig)
    echo: EchoConfig = field(default_factory=EchoConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    log: LogConfig = field(default_factory=LogConfig)
