"""How a test says what is wrong, and what sound is."""

from __future__ import annotations

from typing import Any

import pytest

from pinna.doctor.finding import Snapshot

BUSY = "Who else holds the card? `fuser -v /dev/snd/*` tells. Then `systemctl restart pinna-agent`."
"""The cure where somebody cannot record, or not together with others."""

SILENCE_DBFS = -80.0
"""Below the noise of any room and microphone at a usable gain; what is muted gives zeros, or a constant."""

CLIPPED = 0.01
"""A hundredth of the samples at full scale is heard as distortion; a single bang is not meant."""

_CURES = {
    "no such file": "Is the card `mic` there (arecord -l), and /etc/asound.conf? Run site.yml.",
    "no such device": "The card `mic` has gone: is the microphone plugged in?",
    "permission denied": "Its user must be in group audio; see /dev/snd, and ipc_gid in /etc/asound.conf.",
    "not in list": "Does `arecord -L` list shared_mic? PortAudio leaves out what it cannot open.",
}


def must(holds: object, cause: str, cure: str = "") -> None:
    """Fail with the cause and the cure, and without a traceback, unless `holds`."""
    if not holds:
        pytest.fail(f"{cause.rstrip('.?')}. {cure}".strip() if cure else cause, pytrace=False)


def must_have_seen(snapshot: Snapshot, probe: str) -> None:
    """Fail unless the doctor's probe has answered: what it did not see proves nothing."""
    must(probe in snapshot, f"the doctor could not see {probe}: {snapshot.why(probe)}")


def must_be_sound(name: str, heard: dict[str, Any]) -> None:
    """That `heard` (of remote/listen.py) is sound, not silence and not clipped."""
    error = str(heard.get("error", ""))
    must(not error, f"{name} cannot record from shared_mic: {error}", cure_of(error))
    must(heard["frames"], f"{name} recorded nothing from shared_mic", BUSY)
    level = heard["rms_dbfs"]
    must(
        level is not None and level > SILENCE_DBFS,
        f"{name} recorded {'digital silence' if level is None else f'silence ({level} dBFS)'}",
        "Is the microphone muted, its gain 0, or its switch off? `amixer -c mic` tells.",
    )
    must(
        heard["clipped"] < CLIPPED * heard["frames"],
        f"{name} recorded {heard['clipped']} of {heard['frames']} samples at full scale",
        "Lower the gain: `amixer -c mic`.",
    )


def cure_of(error: str) -> str:
    """Of what a program said that could not record."""
    return next((cure for sign, cure in _CURES.items() if sign in error.lower()), BUSY)
