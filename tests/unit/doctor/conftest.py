"""Snapshots of real machines, as `collect` wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.fixture
def healthy() -> dict[str, Any]:
    """A virtual Pi (Debian trixie) that works. Its hub is put in: while it was seen, there was none."""
    data: dict[str, Any] = json.loads((SNAPSHOTS / "healthy.json").read_text())
    return data
