from __future__ import annotations

from pathlib import Path

import pytest

from pinna.config import loading


@pytest.fixture(autouse=True)
def no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "DEFAULT_PATH", tmp_path / "etc" / "pinna.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pinna.toml"
