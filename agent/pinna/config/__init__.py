"""What the operator decides: frozen dataclasses <- TOML <- environment <- flags."""

from __future__ import annotations

from pinna.config.loading import DEFAULT_PATH, Loaded, is_loopback, load
from pinna.config.schema import (
    KEYS,
    AudioConfig,
    Config,
    EchoConfig,
    HttpConfig,
    HubConfig,
    Key,
    LogConfig,
    SessionConfig,
    VoiceConfig,
)
from pinna.config.secret import HTTP_TOKEN, HUB_TOKEN, read_secret
from pinna.config.show import Setting, as_toml, describe

__all__ = [
    "DEFAULT_PATH",
    "HTTP_TOKEN",
    "HUB_TOKEN",
    "KEYS",
    "AudioConfig",
    "Config",
    "EchoConfig",
    "HttpConfig",
    "HubConfig",
    "Key",
    "Loaded",
    "LogConfig",
    "SessionConfig",
    "Setting",
    "VoiceConfig",
    "as_toml",
    "describe",
    "is_loopback",
    "load",
    "read_secret",
]
