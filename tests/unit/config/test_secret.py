from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pinna.config import read_secret, secret
from pinna.errors import ConfigError


def test_none_at_all() -> None:
    assert read_secret("", None) is None
    assert read_secret("", "") is None


@pytest.mark.parametrize("data", [b"abc.DEF-123", b"abc.DEF-123\n", b"abc.DEF-123\r\n"])
def test_from_a_file(tmp_path: Path, data: bytes) -> None:
    path = private(tmp_path / "token", data)
    assert read_secret(path, None) == "abc.DEF-123"


def test_a_rotated_token_is_picked_up(tmp_path: Path) -> None:
    path = private(tmp_path / "token", b"old\n")
    assert read_secret(path, None) == "old"
    private(tmp_path / "token", b"new\n")
    assert read_secret(path, None) == "new"


def test_the_environment_wins(tmp_path: Path) -> None:
    assert read_secret(str(tmp_path / "missing"), "abc") == "abc"


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"a\n\n", b"a b", b"a\x00b", b"\xff", "ü".encode(), b"x" * 8193]
)
def test_what_is_no_token(tmp_path: Path, data: bytes) -> None:
    path = private(tmp_path / "token", data)
    with pytest.raises(ConfigError) as caught:
        read_secret(path, None)
    assert path in caught.value.cause
    assert caught.value.permanent
    text = data.decode("utf-8", "replace")
    if text.strip():
        with pytest.raises(ConfigError):
            read_secret("", text)


def test_the_longest_token(tmp_path: Path) -> None:
    assert read_secret(private(tmp_path / "token", b"x" * 8192 + b"\r\n"), None) == "x" * 8192


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", tmp_path / "nul\0"):
        with pytest.raises(ConfigError) as caught:
            read_secret(str(path), None)
        assert caught.value.permanent


def test_a_token_everyone_can_read_is_worth_one_warning(tmp_path: Path) -> None:
    path = private(tmp_path / "token", b"abc")
    secret._warn_world_readable.cache_clear()
    with capture_logs() as logs:
        read_secret(path, None)
        assert logs == []
        (tmp_path / "token").chmod(0o644)
        read_secret(path, None)
        read_secret(path, None)
    assert [(entry["event"], entry["path"]) for entry in logs] == [("secret.world_readable", path)]


def private(path: Path, data: bytes) -> str:
    path.touch(0o600)
    path.write_bytes(data)
    return str(path)
