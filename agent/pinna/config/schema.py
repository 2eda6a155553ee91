"""The keys of the configuration: name, type, default, what is allowed and what it is for, all in one place.

`pinna config show`, its flags, the example file and docs/configuration.md are made from `KEYS`.
"""

from __future__ import annotations

import dataclasses
import re
import socket
import typing
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

Value = str | int | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What an annotation says of its field. `check` and `allowed` (in words) go together."""

    help: str
    low: float | None = None
    high: float | None = None
    check: Callable[[str], bool] | None = None
    allowed: str = ""
    private: bool = False  # a wrong value might be a secret in the wrong place: errors do not repeat it


def is_device_id(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) is not None


def is_hub_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  (reading it is what validates it)
    except ValueError:
        return False
    return (
        url.scheme in ("http", "https", "ws", "wss")
        and bool(url.hostname)
        and "@" not in url.netloc
        and not url.fragment
        and not any(character.isspace() for character in text)
    )


def is_refresh_url(text: str) -> bool:
    """Empty, or where a secret may be posted to: nobody between can read it."""
    if not text:
        return True
    url = urlsplit(text) if is_hub_url(text) else None
    local = url is not None and url.hostname in ("127.0.0.1", "::1", "localhost")
    return url is not None and (url.scheme == "https" or (url.scheme == "http" and local))


def is_ice_server(text: str) -> bool:
    """RFC 7064 and 7065, as far as aiortc understands them."""
    return re.fullmatch(r"(stun|turn)s?:[^\s?:@]+(:[0-9]{1,5})?(\?transport=(udp|tcp))?", text) is not None


def is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", text) is not None
    return True


WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
"""The models in the wheel of pymicro-wakeword."""


def is_wake_word(text: str) -> bool:
    return text in WAKE_WORDS


def is_path_or_empty(text: str) -> bool:
    return text == "" or text.startswith("/")


_DEVICE_HELP = "The sound device: its name, part of its name, its index, or `hw:X,Y`."
_TOKEN_FILE = About(
    "", check=is_path_or_empty, allowed="the absolute path of a file that holds the token", private=True
)


@dataclass(frozen=True, slots=True)
class AudioConfig:
    input: Annotated[str, About(f"{_DEVICE_HELP} Heard.", check=bool, allowed="a name")] = "default"
    output: Annotated[str, About(f"{_DEVICE_HELP} Spoken through.", check=bool, allowed="a name")] = "default"
    latency_ms: Annotated[int, About("Latency asked of PortAudio, each way, in milliseconds.", 5, 1000)] = 60


@dataclass(frozen=True, slots=True)
class EchoConfig:
    engine: Annotated[
        Literal["speexdsp", "webrtc", "none"],
        About("The echo canceller. One that cannot start is an error; it is never replaced silently."),
    ] = "speexdsp"
    rate: Annotated[Literal[16000, 48000], About("Sample rate of the canceller's core, in hertz.")] = 16000
    tail_ms: Annotated[
        int, About("How long an echo may last, in milliseconds: larger rooms, longer.", 20, 500)
    ] = 160


@dataclass(frozen=True, slots=True)
class HubConfig:
    url: Annotated[
        str,
        About(
            "Where the hub is. For `whip` and `websocket`, the whole address of the endpoint.",
            check=is_hub_url,
            allowed="an http:// or https:// address (for `websocket` also ws:// or wss://) with a host, "
            "without user name and password",
        ),
    ] = "http://127.0.0.1:8080"
    dialect: Annotated[
        Literal["connect", "whip", "websocket"],
        About(
            "How a session is asked for: `POST /connect` with JSON, RFC 9725, or a call to a voice service "
            "over a WebSocket."
        ),
    ] = "connect"
    token_file: Annotated[
        str,
        dataclasses.replace(
            _TOKEN_FILE, help="A file with the bearer token for the hub. Read at each connect."
        ),
    ] = ""
    ice_servers: Annotated[
        tuple[str, ...],
        About(
            "STUN and TURN servers. Empty: direct connections only, which is right on a local network.",
            check=is_ice_server,
            allowed="stun:host:port or turn:host:port",
        ),
    ] = ()
    bitrate: Annotated[int, About("Of the Opus stream to the hub, in bit/s.", 6000, 510_000)] = 32_000
    complexity: Annotated[int, About("Of the Opus encoder: 0 costs least, 10 sounds best.", 0, 10)] = 0
    reconnect_seconds: Annotated[
        float, About("Wait before the first reconnection; it doubles from there.", 0.01, 3600)
    ] = 3.0
    reconnect_max_seconds: Annotated[float, About("The longest wait between reconnections.", 0.01, 3600)] = (
        30.0
    )


@dataclass(frozen=True, slots=True)
class VoiceConfig:
    sample_rate: Annotated[
        Literal[16000, 24000], About("Of the microphone on its way to a voice service, in hertz.")
    ] = 16000
    client_name: Annotated[str, About("What we call ourselves there.", check=bool, allowed="a name")] = (
        "pinna"
    )
    character: Annotated[str, About("Whom to talk to there; empty: whoever the service gives.")] = ""
    language: Annotated[str, About("Of the talk (BCP 47).", check=bool, allowed="a language")] = "en-US"
    timezone: Annotated[str, About("Where we are (IANA).", check=bool, allowed="a time zone")] = "Etc/UTC"
    token_command: Annotated[
        tuple[str, ...],
        About(
            "A program and its arguments that print a fresh token, for when the one at hand has expired or "
            "is refused. Run without a shell."
        ),
    ] = ()
    refresh_url: Annotated[
        str,
        About(
            "Without such a command: an endpoint that gives a fresh token for a refresh token, with its key "
            "(Firebase: https://securetoken.googleapis.com/v1/token?key=...).",
            check=is_refresh_url,
            allowed="an https:// address, without user name and password",
            private=True,
        ),
    ] = ""
    refresh_token_file: Annotated[
        str, dataclasses.replace(_TOKEN_FILE, help="A file with that refresh token. Read each time.")
    ] = ""
    log_text: Annotated[
        Literal["masked", "plain"], About("Whether the words of a talk may stand in the log (at debug).")
    ] = "masked"


@dataclass(frozen=True, slots=True)
class SessionConfig:
    mode: Annotated[
        Literal["always", "request", "button", "wakeword", "button+wakeword"],
        About(
            "When the microphone may leave the device: always; in sessions that are asked for (`pinna "
            "session open`); or in those and ones that a button, a wake word, or either begins."
        ),
    ] = "always"
    pre_roll_ms: Annotated[
        int,
        About("What was said just before a session began and is sent ahead of it, in milliseconds.", 0, 2000),
    ] = 300
    quiet_seconds: Annotated[
        float, About("A session ends when the hub has said nothing for so long.", 1, 86_400)
    ] = 60.0
    max_seconds: Annotated[float, About("No session lasts longer.", 1, 86_400)] = 900.0
    state_dir: Annotated[
        str,
        About(
            "A folder for what outlives a restart: a mute, and the log of sessions. Empty: what systemd "
            "gives, or a folder of the device's name in ~/.local/state/pinna.",
            check=is_path_or_empty,
            allowed="the absolute path of a folder",
        ),
    ] = ""
    wake_words: Annotated[
        tuple[str, ...],
        About(
            "Any of these begins a session.",
            check=is_wake_word,
            allowed="one of " + ", ".join(WAKE_WORDS),
        ),
    ] = ("okay_nabu",)
    wake_sensitivity: Annotated[
        float, About("0 hears fewest, 1 most; 0.5 is as the models were made.", 0, 1)
    ] = 0.5
    wake_refractory_seconds: Annotated[
        float, About("For so long after one wake word there is no other.", 0.5, 60)
    ] = 2.0
    barge_in: Annotated[Literal["off", "on"], About("Whether a wake word counts while the hub speaks.")] = (
        "off"
    )
    button_pin: Annotated[
        int, About("The GPIO line that the button is at, as the chip counts them (BCM numbers).", 0, 511)
    ] = 17
    button_wiring: Annotated[
        Literal["ground", "supply"],
        About("What the button connects its line to; the line is pulled the other way."),
    ] = "ground"
    led_pin: Annotated[
        int, About("The GPIO line of a LED that tells the state; -1: there is none.", -1, 511)
    ] = -1
    tones: Annotated[
        Literal["off", "on"], About("Whether short tones from the loudspeaker tell what the session does.")
    ] = "off"
    gpio_chip: Annotated[
        str,
        About(
            "The chip of both lines, such as /dev/gpiochip0; empty: that of a Raspberry Pi's header.",
            check=is_path_or_empty,
            allowed="the absolute path of a GPIO character device",
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class HttpConfig:
    host: Annotated[
        str,
        About(
            "Where /health, /metrics and /session are answered. An address for others needs a token.",
            check=is_host,
            allowed="an IP address or a host name",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, About("Its port; 0 takes any free one.", 0, 65535)] = 8081
    token_file: Annotated[
        str,
        dataclasses.replace(
            _TOKEN_FILE,
            help="A file with the bearer token that /health, /metrics and /session ask for. Without one they "
            "tell everyone on this device, and `pinna session` changes with a token that the agent makes "
            "(`session_token` in `session.state_dir`).",
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Annotated[Literal["debug", "info", "warning", "error"], About("The least that is logged.")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "console", "json"], About("`auto`: console on a terminal, JSON lines otherwise.")
    ] = "auto"


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "pinna"


@dataclass(frozen=True, slots=True)
class Config:
    device_id: Annotated[
        str,
        About(
            "The name the hub knows this device by; two devices of one name throw each other out.",
            check=is_device_id,
            allowed="1 to 64 letters, digits, dots, dashes and underscores",
        ),
    ] = field(default_factory=_host_name)
    audio: AudioConfig = field(default_factory=AudioConfig)
    echo: EchoConfig = field(default_factory=EchoConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    log: LogConfig = field(default_factory=LogConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    voice: VoiceConfig = field(default_factory=VoiceConfig)


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `name` is dotted: "hub.url". `default` is this machine's, where it depends on one."""

    name: str
    type: type[str] | type[int] | type[float] | type[tuple[str, ...]]
    default: Value
    choices: tuple[str | int, ...]
    about: About

    @property
    def help(self) -> str:
        return self.about.help

    @property
    def variable(self) -> str:
        return "PINNA_" + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace(".", "-").replace("_", "-")

    @property
    def range(self) -> tuple[float, float] | None:
        low, high = self.about.low, self.about.high
        return None if low is None or high is None else (low, high)

    @property
    def allowed(self) -> str:
        """What may be given, in words that end a sentence."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.range:
            kind = "a whole number" if self.type is int else "a number"
            return f"{kind} from {self.range[0]:.10g} to {self.range[1]:.10g}"
        text = self.about.allowed or "text"
        return f"a list, each {text}" if self.type is tuple else text

    def accept(self, given: object) -> Value:
        """The value as the dataclass has it. Raises ValueError when it is not what is allowed.

        A bool is not a number; a whole number is; case does not matter where there are choices.
        """
        value: Value
        if self.type is tuple and isinstance(given, list | tuple):
            value = tuple(self._text(item) for item in given)
        elif self.type is str:
            value = self._text(given)
        elif isinstance(given, int | float) and not isinstance(given, bool):
            value = self._number(given)
        else:
            raise ValueError(self.allowed)
        if self.choices and value not in self.choices:
            raise ValueError(self.allowed)
        return value

    def parse(self, text: str) -> Value:
        """The same from a variable or a flag; a list is separated by commas."""
        if self.type is tuple:
            return self.accept([item.strip() for item in text.split(",") if item.strip()])
        if self.type is str:
            return self.accept(text)
        if re.fullmatch(r"-?[0-9]{1,18}", text):
            return self.accept(int(text))
        if re.fullmatch(r"-?[0-9]{1,18}\.[0-9]{1,18}", text):
            return self.accept(float(text))
        raise ValueError(self.allowed)

    def _text(self, given: object) -> str:
        if not isinstance(given, str) or len(given) > 255:
            raise ValueError(self.allowed)
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in given):
            raise ValueError(f"{self.allowed}, without control characters")
        if self.choices:
            return given.lower()
        if self.about.check and not self.about.check(given):
            raise ValueError(self.allowed)
        return given

    def _number(self, given: int | float) -> int | float:
        if self.type is int and isinstance(given, float):
            raise ValueError(self.allowed)
        if self.range and not self.range[0] <= given <= self.range[1]:  # false for nan as well
            raise ValueError(self.allowed)
        return float(given) if self.type is float else given


def _keys(of: type[Any], prefix: str = "") -> Iterator[Key]:
    hints = typing.get_type_hints(of, include_extras=True)
    defaults = of()
    for item in dataclasses.fields(of):
        default, hint = getattr(defaults, item.name), hints[item.name]
        if dataclasses.is_dataclass(default):
            yield from _keys(hint, f"{prefix}{item.name}.")
            continue
        plain, about = typing.get_args(hint)
        choices = typing.get_args(plain) if typing.get_origin(plain) is Literal else ()
        yield Key(f"{prefix}{item.name}", type(default), default, choices, about)


KEYS: dict[str, Key] = {key.name: key for key in _keys(Config)}
"""Every key, in the order of the file: top level first, then table by table."""

TABLES: tuple[str, ...] = tuple(dict.fromkeys(name.split(".")[0] for name in KEYS if "." in name))


def build(values: dict[str, Value]) -> Config:
    """The configuration with these accepted values, and defaults for the rest."""
    tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    top: dict[str, Any] = {}
    for name, value in values.items():
        table, _, key = name.rpartition(".")
        (tables[table] if table else top)[key] = value
    return Config(
        **top,
        audio=AudioConfig(**tables["audio"]),
        echo=EchoConfig(**tables["echo"]),
        hub=HubConfig(**tables["hub"]),
        voice=VoiceConfig(**tables["voice"]),
        session=SessionConfig(**tables["session"]),
        http=HttpConfig(**tables["http"]),
        log=LogConfig(**tables["log"]),
    )


def value_of(config: Config, name: str) -> Value:
    """The value of a dotted key."""
    table, _, key = name.rpartition(".")
    value: Value = getattr(getattr(config, table) if table else config, key)
    return value
