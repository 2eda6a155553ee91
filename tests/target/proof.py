"""How a test says what is wrong."""

from __future__ import annotations

import pytest

BUSY = "Who else holds the card? `fuser -v /dev/snd/*` tells. Then `systemctl restart pinna-agent`."
"""The cure where somebody cannot record, or not together with others."""


def must(holds: object, cause: str, cure: str = "") -> None:
    """Fail with the cause and the cure, and without a traceback, unless `holds`."""
    if not holds:
        pytest.fail(f"{cause.rstrip('.?')}. {cure}".strip() if cure else cause, pytrace=False)
