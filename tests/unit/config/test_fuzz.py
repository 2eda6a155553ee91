"""Arbitrary input: a Config or a ConfigError, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinna.config import KEYS, Config, as_toml, load, loading
from pinna.config.schema import WAKE_WORDS
from pinna.errors import ConfigError

FUZZ = settings(
    deadline=None,  # a busy machine is not a failure
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
LEAVES = (
    st.text(max_size=70)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.sampled_from(["http://h", "stun:a:1", "whip", "json", "0.0.0.0", 60, 16000, 0, 1.5])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)
NAMES = st.sampled_from([name.rpartition(".")[2] for name in KEYS]) | st.text(max_size=8)
TABLES = st.sampled_from(["audio", "echo", "hub", "http", "log"]) | st.text(max_size=8)
TREES = st.dictionaries(TABLES | NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=6), max_size=6)


def outcome(data: bytes, environ: Mapping[str, str], overrides: Mapping[str, str], directory: Path) -> None:
    file = directory / "fuzz.toml"
    file.write_bytes(data)
    try:
        loaded = load(file, environ, overrides)
    except ConfigError as error:
        texts = (error.cause, error.hint)
        assert all(texts)
        assert "".join(texts).encode("utf-8")  # it can be printed
    else:
        assert isinstance(loaded.config, Config)
        file.write_text(as_toml(loaded.config), "utf-8")
        assert load(file, {"PINNA_HTTP_TOKEN": "t"}, {}).config == loaded.config


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@FUZZ
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_fuzz_bytes(directory: Path, data: bytes) -> None:
    outcome(data, {}, {}, directory)


@FUZZ
@given(TREES)
def test_fuzz_trees(directory: Path, tree: dict[str, Any]) -> None:
    outcome(toml(tree).encode("utf-8", "replace"), {}, {}, directory)


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from([key.variable for key in KEYS.values()])
        | st.text(max_size=9).map("PINNA_".__add__)
        | st.sampled_from([*loading._ALIASES, *loading._FIXED])
        | st.text(max_size=9),
        LEAVES.map(str),
        max_size=8,
    ).filter(lambda environ: "PINNA_CONFIG" not in environ),
    st.dictionaries(st.sampled_from(list(KEYS)) | st.text(max_size=9), LEAVES.map(str), max_size=4),
)
def test_fuzz_environment_and_flags(
    directory: Path, environ: dict[str, str], overrides: dict[str, str]
) -> None:
    outcome(b"", environ, overrides, directory)


def accepted(name: str) -> st.SearchStrategy[object]:
    """Values the key takes, by what the key says of itself."""
    key = KEYS[name]
    if key.choices:
        return st.sampled_from(key.choices)
    if key.range and key.type is int:
        return st.integers(int(key.range[0]), int(key.range[1]))
    if key.range:
        return st.floats(*key.range) | st.integers(1, int(key.range[1]))
    examples = {
        "device_id": st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
        "hub.url": st.from_regex(r"https?://[a-z0-9]{1,9}(:[1-9][0-9]{0,3})?(/[a-z]{0,9})?", fullmatch=True),
        "hub.ice_servers": st.lists(
            st.from_regex(r"stuns?:[a-z0-9.]{1,9}:[0-9]{1,5}", fullmatch=True), max_size=3
        ),
        "voice.token_command": st.lists(st.from_regex(r"[a-z/-]{1,9}", fullmatch=True), max_size=3),
        "voice.refresh_url": st.from_regex(
            r"https://[a-z0-9]{1,9}/[a-z]{0,9}(\?key=[a-z]{1,9})?", fullmatch=True
        ),
        "session.wake_words": st.lists(st.sampled_from(WAKE_WORDS), min_size=1, max_size=3),
        "http.host": st.ip_addresses().map(str),
    }
    text = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
    return examples.get(name, text.map("/".__add__))


@FUZZ
@given(st.fixed_dictionaries({}, optional={name: accepted(name) for name in KEYS}))
def test_what_is_written_is_read_again(directory: Path, values: dict[str, Any]) -> None:
    wait, most = "hub.reconnect_seconds", "hub.reconnect_max_seconds"
    values[wait], values[most] = sorted((values.get(wait, 3.0), values.get(most, 30.0)))
    if len(values.keys() & {"voice.refresh_url", "voice.refresh_token_file"}) == 1:
        values = {name: value for name, value in values.items() if not name.startswith("voice.refresh")}
    if values.get("session.led_pin") == values.get("session.button_pin", 17):
        values.pop("session.led_pin", None)
    tree: dict[str, Any] = {}
    for name, value in values.items():
        table, _, last = name.rpartition(".")
        (tree.setdefault(table, {}) if table else tree)[last] = value
    file = directory / "accepted.toml"
    file.write_text(toml(tree), "utf-8")
    environ = {"PINNA_HTTP_TOKEN": "t"}
    first = load(file, environ, {})
    assert {name for name, source in first.sources.items() if source != "default"} == values.keys()
    file.write_text(as_toml(first.config), "utf-8")
    assert load(file, environ, {}).config == first.config


def toml(tree: dict[str, Any]) -> str:
    """A TOML document that says `tree`, whatever is in it: everything inline, every character escaped."""
    return "".join(f"{inline(key)} = {inline(value)}\n" for key, value in tree.items())


def inline(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(key)} = {inline(item)}" for key, item in value.items()) + "}"
    return repr(value)
