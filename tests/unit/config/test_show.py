from __future__ import annotations

import tomllib
from pathlib import Path

from tests.support.configuration_page import PAGE, with_reference

from pinna.config import KEYS, AudioConfig, Config, as_toml, describe, load


def test_describe_tells_value_source_and_help_of_every_key(file: Path) -> None:
    file.write_text("[http]\nport = 9000")
    settings = describe(load(file, {"PINNA_DEVICE_ID": "x"}, {}))
    assert [setting.key for setting in settings] == list(KEYS)
    by_key = {setting.key: setting for setting in settings}
    assert by_key["http.port"][1:3] == (9000, f"file {file} line 2")
    assert by_key["device_id"][1:3] == ("x", "environment PINNA_DEVICE_ID")
    assert by_key["hub.url"][1:3] == ("http://127.0.0.1:8080", "default")
    assert all(setting.help for setting in settings)


def test_no_secret_is_shown() -> None:
    loaded = load(None, {"PINNA_HUB_TOKEN": "s3cret", "PINNA_HTTP_TOKEN": "s3cret"}, {})
    assert "s3cret" not in repr(describe(loaded))
    assert "s3cret" not in as_toml(loaded.config)


def test_the_example_sets_nothing_but_the_name() -> None:
    text = as_toml(Config(device_id="kitchen"))
    assert tomllib.loads(text) == {
        "device_id": "kitchen",
        **{t: {} for t in ("audio", "echo", "hub", "http", "log", "session", "voice")},
    }
    for key in KEYS.values():
        assert key.help in text
        assert key.variable in text


def test_names_with_quotes_and_backslashes_survive(file: Path) -> None:
    config = Config(audio=AudioConfig(input='USB "Mic" \\ #1', output="it's"))
    file.write_text(as_toml(config))
    assert load(file, {}, {}).config == config


def test_what_is_commented_out_would_be_valid(file: Path) -> None:
    lines = as_toml(Config()).splitlines()
    assignments = [
        line.removeprefix("# ") if " = " in line and line[-1] not in "._" else line for line in lines
    ]
    file.write_text("\n".join(assignments))
    loaded = load(file, {}, {})
    assert loaded.config == Config()
    assert all(source.startswith("file ") for source in loaded.sources.values())


def test_the_page_in_docs_says_what_the_code_says() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_reference(page), "run: python -m tests.support.configuration_page"
