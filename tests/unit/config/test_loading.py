from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pinna.config import (
    KEYS,
    Config,
    HttpConfig,
    HubConfig,
    Loaded,
    as_toml,
    load,
    loading,
)
from pinna.errors import ConfigError


def load_text(file: Path, text: str, environ: Mapping[str, str] | None = None, **overrides: str) -> Loaded:
    file.write_text(text, "utf-8")
    return load(file, environ or {}, {name.replace("__", "."): value for name, value in overrides.items()})


def refusal(file: Path, text: str, environ: Mapping[str, str] | None = None, **overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(file, text, environ, **overrides)
    assert caught.value.permanent
    return str(caught.value)


class TestPrecedence:
    def test_without_anything_all_is_default(self) -> None:
        loaded = load(None, {}, {})
        assert loaded.config == Config()
        assert set(loaded.sources.values()) == {"default"}
        assert loaded.path is None

    def test_file_then_alias_then_variable_then_flag(self, file: Path) -> None:
        text = '[hub]\nurl = "http://file"\n'
        naila, pinna = {"NAILA_HUB_URL": "http://naila"}, {"PINNA_HUB_URL": "http://pinna"}

        def url(environ: Mapping[str, str], **overrides: str) -> tuple[str, str]:
            loaded = load_text(file, text, environ, **overrides)
            return loaded.config.hub.url, loaded.sources["hub.url"]

        assert url({}) == ("http://file", f"file {file} line 2")
        assert url(naila) == ("http://naila", "environment NAILA_HUB_URL")
        assert url(naila | pinna) == ("http://pinna", "environment PINNA_HUB_URL")
        assert url(naila | pinna, hub__url="http://flag") == ("http://flag", "flag --hub-url")

    def test_flag_names_the_file_before_the_variable(self, file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.toml"
        other.write_text('device_id = "other"')
        file.write_text('device_id = "this"')
        environ = {"PINNA_CONFIG": str(other)}
        assert load(file, environ, {}).config.device_id == "this"
        assert load(None, environ, {}).config.device_id == "other"
        assert load(None, environ, {}).path == other

    def test_the_default_file_is_read_when_it_exists(self) -> None:
        loading.DEFAULT_PATH.parent.mkdir()
        loading.DEFAULT_PATH.write_text("\ndevice_id = 'etc'\n")
        loaded = load(None, {}, {})
        assert loaded.config.device_id == "etc"
        assert loaded.sources["device_id"] == f"file {loading.DEFAULT_PATH} line 2"

    @pytest.mark.parametrize("how", ["flag", "variable"])
    def test_a_file_that_is_asked_for_must_exist(self, tmp_path: Path, how: str) -> None:
        missing = tmp_path / "missing.toml"
        with pytest.raises(ConfigError, match=r"missing\.toml does not exist"):
            load(missing if how == "flag" else None, {"PINNA_CONFIG": str(missing)}, {})

    def test_empty_variables_are_not_set(self, file: Path) -> None:
        environ = {"PINNA_HUB_URL": "", "PINNA_HTTP_PORT": "", "PINNA_NONSENSE": "", "NAILA_CHANNELS": ""}
        assert load_text(file, "", environ).config == Config()
        assert load(None, {"PINNA_CONFIG": ""}, {}).config == Config()


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ('device_id = ""', 1, ["device_id", "''", "1 to 64"]),
            (f'device_id = "{"x" * 65}"', 1, ["device_id", "1 to 64"]),
            ('device_id = "küche"', 1, ["device_id", "letters"]),
            ("device_id = 7", 1, ["device_id is 7"]),
            ("[audio]\nlatency_ms = 4", 2, ["audio.latency_ms is 4", "5 to 1000"]),
            ("[audio]\nlatency_ms = 1001", 2, ["5 to 1000"]),
            ("[audio]\nlatency_ms = 60.0", 2, ["60.0", "whole number"]),
            ("[audio]\nlatency_ms = true", 2, ["True", "whole number"]),
            ('[audio]\nlatency_ms = "60"', 2, ["'60'", "whole number"]),
            ("[audio]\nlatency_ms = 1979-05-27", 2, ["audio.latency_ms", "whole number"]),
            ('[audio]\ninput = ""', 2, ["audio.input", "a name"]),
            ('[audio]\ninput = "a\\u0007b"', 2, ["audio.input", "control characters"]),
            ("[echo]\ntail_ms = 19", 2, ["20 to 500"]),
            ("[echo]\nrate = 44100", 2, ["echo.rate is 44100", "16000, 48000"]),
            ('[echo]\nengine = "speex"', 2, ["'speex'", "speexdsp, webrtc, none"]),
            ("[hub]\nbitrate = 5999", 2, ["6000 to 510000"]),
            ("[hub]\ncomplexity = true", 2, ["True", "0 to 10"]),
            ("[hub]\ncomplexity = 11", 2, ["0 to 10"]),
            ("[hub]\nreconnect_seconds = 0", 2, ["0.01 to 3600"]),
            ("[hub]\nreconnect_seconds = nan", 2, ["nan", "0.01 to 3600"]),
            ("[hub]\nreconnect_max_seconds = inf", 2, ["inf", "0.01 to 3600"]),
            ("[hub]\n\n\nreconnect_seconds = 31", 4, ["above hub.reconnect_max_seconds", "30"]),
            ("[hub]\nreconnect_max_seconds = 1", 2, ["hub.reconnect_seconds is 3", "which is 1"]),
            ('[hub]\nurl = "hub:8080"', 2, ["'hub:8080'", "http:// or https://"]),
            ('[hub]\nurl = "ftp://hub"', 2, ["http:// or https://"]),
            ('[hub]\nurl = "http://"', 2, ["with a host"]),
            ('[hub]\nurl = "http://hub:70000"', 2, ["http:// or https://"]),
            ('[hub]\nurl = "http://hub/a b"', 2, ["http:// or https://"]),
            ('[hub]\nice_servers = "stun:a:1"', 2, ["hub.ice_servers", "a list"]),
            ('[hub]\nice_servers = ["stun:a:1", "b"]', 2, ["a list", "stun:host:port"]),
            ('[hub]\nice_servers = [["stun:a:1"]]', 2, ["a list", "stun:host:port"]),
            ("[http]\nport = -1", 2, ["0 to 65535"]),
            ("[http]\nport = 65536", 2, ["0 to 65535"]),
            ('[http]\nhost = "two words"', 2, ["IP address or a host name"]),
            ("hub = 3", 1, ["hub is 3", "[hub]"]),
            ("[[hub]]", 1, ["hub is a list", "[hub]"]),
            ('session.wake_words = ["hey you"]', 1, ["session.wake_words is ['hey you']", "okay_nabu"]),
            ("[hub.url]\nx = 1", 1, ["hub.url is a table"]),
            ("[hub]\nulr = 1", 2, ["no key 'hub.ulr'", "Did you mean hub.url?"]),
            ('url = "http://hub"', 1, ["no key 'url'", "Did you mean hub.url?"]),
            ("[hbu]", 1, ["no table 'hbu'", "Did you mean hub?"]),
            ("[xyzzy]", 1, ["no table 'xyzzy'", "audio, echo, hub, http, log"]),
            ("[log]\nxyzzy = 1", 2, ["no key 'log.xyzzy'", "log.level, log.format"]),
            ("audio.latency_ms = 2", 1, ["audio.latency_ms is 2"]),
            ("audio = { latency_ms = 2 }", 1, ["audio.latency_ms is 2"]),
        ],
    )
    def test_name_file_line_value_and_cure(self, file: Path, text: str, line: int, words: list[str]) -> None:
        message = refusal(file, text)
        assert message.startswith(f"{file} line {line}: ")
        for word in words:
            assert word in message

    def test_all_at_once(self, file: Path) -> None:
        environ = {"PINNA_ECHO_RATE": "1", "NAILA_CHANNELS": "2"}
        message = refusal(file, "[http]\nport = -1\n[hub]\ncomplexity = 99\n", environ, hub__bitrate="1")
        for problem in (
            f"{file} line 2: http.port is -1",
            f"{file} line 4: hub.complexity is 99",
            "environment PINNA_ECHO_RATE: echo.rate is '1'",
            "environment NAILA_CHANNELS: channels is '2'",
            "flag --hub-bitrate: hub.bitrate is '1'",
        ):
            assert problem in message
        assert "5 problems" in message

    @pytest.mark.parametrize(
        "url", ["http://me:pa/ss@hub", "http://me:pass@hub", "me:pass@hub", "ftp://pass@hub"]
    )
    def test_do_not_repeat_a_password(self, file: Path, url: str) -> None:
        assert "ss@" not in (message := refusal(file, f'[hub]\nurl = "{url}"'))
        assert "hub.url" in message

    def test_do_not_repeat_a_token_in_the_wrong_place(self, file: Path) -> None:
        message = refusal(file, '[hub]\ntoken = "s3cret"\n[http]\ntoken_file = "s3cret"')
        assert "s3cret" not in message
        assert "Did you mean hub.token_file?" in message
        assert "absolute path" in message

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"\xff\xfeh\x00", "not UTF-8 (line 1)"),
            (b"# fine\n\xc3\x28", "not UTF-8 (line 2)"),
            (b"\x00\x01\x02", "not valid TOML"),
            (b"[hub\n", "at line 1"),
            (b"a = 1\na = 2\n", "at line 2"),
            (b"x = " + b"[" * 100_000, "nested too deeply"),
            (b"x = " + b"9" * 10_000, "not valid TOML"),
            (b"#" * ((1 << 20) + 1), "larger than"),
        ],
    )
    def test_what_is_no_toml(self, file: Path, data: bytes, words: str) -> None:
        file.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            load(file, {}, {})
        assert words in str(caught.value)
        assert str(file) in str(caught.value)

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="directory"):
            load(tmp_path, {}, {})
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path / "nul\0byte", {}, {})
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path / ("x" * 300), {}, {})

    def test_a_byte_order_mark_and_foreign_line_ends_are_fine(self, file: Path) -> None:
        file.write_bytes(b"\xef\xbb\xbfdevice_id = 'a'\r\n[log]\r\nlevel = 'debug'\r\n")
        loaded = load(file, {}, {})
        assert (loaded.config.device_id, loaded.config.log.level) == ("a", "debug")
        assert loaded.sources["log.level"].endswith("line 3")

    def test_values_in_no_range_python_can_print(self, file: Path) -> None:
        assert "enormous" in refusal(file, "[audio]\nlatency_ms = 0x" + "9" * 5000)


class TestEnvironment:
    def test_every_key_has_its_variable_and_flag(self, file: Path) -> None:
        given = {
            "device_id": "kitchen",
            "audio.input": "shared_mic",
            "audio.output": "hw:1,0",
            "audio.latency_ms": "20",
            "echo.engine": "WebRTC",
            "echo.rate": "48000",
            "echo.tail_ms": "200",
            "hub.url": "https://hub.example:8443/x",
            "hub.dialect": "whip",
            "hub.token_file": "/run/token",
            "hub.ice_servers": "stun:a:3478, turns:b:5349?transport=tcp,",
            "hub.bitrate": "64000",
            "hub.complexity": "10",
            "hub.reconnect_seconds": "0.5",
            "hub.reconnect_max_seconds": "60",
            "voice.sample_rate": "24000",
            "voice.client_name": "ear",
            "voice.character": "Ada",
            "voice.language": "de-DE",
            "voice.timezone": "Europe/Berlin",
            "voice.token_command": "/usr/bin/fetch-token, --quiet",
            "voice.log_text": "plain",
            "session.mode": "wakeword",
            "session.pre_roll_ms": "0",
            "session.quiet_seconds": "20",
            "session.max_seconds": "600",
            "session.state_dir": "/var/lib/pinna-agent",
            "session.wake_words": "alexa,hey_jarvis",
            "session.wake_sensitivity": "0.7",
            "session.wake_refractory_seconds": "1.5",
            "session.barge_in": "on",
            "http.host": "::1",
            "http.port": "0",
            "http.token_file": "/run/http",
            "log.level": "DEBUG",
            "log.format": "json",
        }
        assert given.keys() == KEYS.keys()
        loaded = load(None, {KEYS[name].variable: text for name, text in given.items()}, {})
        assert loaded.config == load(None, {}, given).config
        assert all(source.startswith("environment PINNA_") for source in loaded.sources.values())
        assert loaded.config.hub.ice_servers == ("stun:a:3478", "turns:b:5349?transport=tcp")
        assert loaded.config.hub.reconnect_max_seconds == 60.0
        assert loaded.config.echo.engine == "webrtc"
        assert loaded.config.echo.rate == 48000
        assert load_text(file, as_toml(loaded.config)).config == loaded.config

    @pytest.mark.parametrize("text", ["1_000", " 60", "60 ", "6e1", "0x3c", "+60", "", "sixty", "٦٠", "60.0"])
    def test_numbers_are_read_strictly(self, text: str) -> None:
        with pytest.raises(ConfigError, match="flag --audio-latency-ms"):
            load(None, {}, {"audio.latency_ms": text})

    def test_unknown_variables_of_ours_are_mistakes(self, file: Path) -> None:
        message = refusal(file, "", {"PINNA_HUB_ULR": "x"})
        assert "no variable 'PINNA_HUB_ULR'. Did you mean PINNA_HUB_URL?" in message

    def test_tokens_and_foreign_variables_are_not(self, file: Path) -> None:
        environ = {"PINNA_HUB_TOKEN": "t", "PINNA_HTTP_TOKEN": "t", "NAILA_WHATEVER": "x", "PATH": "/bin"}
        assert load_text(file, "", environ).config == Config()

    def test_the_hub_clients_variables(self, file: Path) -> None:
        environ = {
            "NAILA_HUB_URL": "http://hub:8080",
            "NAILA_DEVICE_ID": "livingroom",
            "NAILA_INPUT_DEVICE": "1",
            "NAILA_OUTPUT_DEVICE": "USB",
            "NAILA_SAMPLE_RATE": "48000",
            "NAILA_FRAME_DURATION_MS": "20",
            "NAILA_CHANNELS": "1",
            "NAILA_RECONNECT_DELAY": "2",
            "NAILA_MAX_RECONNECT_DELAY": "20.5",
            "NAILA_LOG_LEVEL": "WARNING",
        }
        config = load_text(file, "", environ).config
        assert config.hub == HubConfig("http://hub:8080", reconnect_seconds=2.0, reconnect_max_seconds=20.5)
        assert (config.device_id, config.audio.input, config.audio.output) == ("livingroom", "1", "USB")
        assert config.log.level == "warning"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("NAILA_SAMPLE_RATE", "16000"), ("NAILA_FRAME_DURATION_MS", "10"), ("NAILA_CHANNELS", "2")],
    )
    def test_what_the_hub_client_could_choose_and_we_cannot(self, file: Path, name: str, value: str) -> None:
        message = refusal(file, "", {name: value})
        assert name in message
        assert repr(value) in message
        assert "always" in message

    def test_an_overruled_alias_is_not_judged(self, file: Path) -> None:
        environ = {"NAILA_DEVICE_ID": "not fit for us", "PINNA_DEVICE_ID": "fit"}
        assert load_text(file, "", environ).config.device_id == "fit"

    def test_an_unknown_override_is_a_mistake(self) -> None:
        with pytest.raises(ConfigError, match=r"Did you mean hub\.url"):
            load(None, {}, {"hub.ulr": "x"})


class TestOpenToOthers:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "pi.local"])
    def test_needs_a_token(self, file: Path, host: str) -> None:
        text = f'[http]\nhost = "{host}"\n'
        assert f"{file} line 2: http.host is {host!r}" in refusal(file, text)
        assert load_text(file, text, {"PINNA_HTTP_TOKEN": "t"}).config.http.host == host
        assert load_text(file, text + 'token_file = "/run/t"').config.http == HttpConfig(host, 8081, "/run/t")

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    def test_loopback_does_not(self, file: Path, host: str) -> None:
        assert load_text(file, f'[http]\nhost = "{host}"').config.http.host == host
