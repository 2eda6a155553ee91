"""Runs on the target, as root: take the microphone's USB device from its driver, and give it back.

To the kernel, to udev and to programs this is what pulling the plug and putting it in again is. Prints
{"gone": true, "back": true, "heard": true, "streams": [before, after], "seconds": 4.2}, of which `seconds` is
from giving it back to the agent sending its sound again; or {"error": ...}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.target.remote.common import MICROPHONE, configuration, health, sound_card

PATIENCE_SECONDS = 120


def until(condition: Callable[[], bool]) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def replug() -> dict[str, Any]:
    if not MICROPHONE.exists():
        return {"error": "there is no card `mic` to replug"}
    usb = sound_card(MICROPHONE.readlink().name.removeprefix("card"))
    if usb is None:
        return {"error": "the card `mic` is not on USB"}
    settings = configuration()
    before = health(settings)
    if "error" in before:
        return {"error": f"the agent does not answer ({before['error']})"}
    switch = usb / "authorized"
    switch.write_text("0")
    try:
        gone = until(lambda: not MICROPHONE.exists())
    finally:
        switch.write_text("1")
        given_back = time.monotonic()
    back = until(MICROPHONE.exists)
    streams = before["audio"]["streams_opened"]
    after: dict[str, Any] = {}

    def heard() -> bool:
        """The agent has opened the card anew, and sends what it hears."""
        nonlocal after
        earlier, after = after, health(settings)
        return (
            "error" not in earlier
            and "error" not in after
            and after["audio"]["streams_opened"] > streams
            and after["mic_frames_sent"] > earlier.get("mic_frames_sent", after["mic_frames_sent"])
        )

    resumed = until(heard)
    return {
        "gone": gone,
        "back": back,
        "heard": resumed,
        "streams": [streams, after.get("audio", {}).get("streams_opened")],
        "seconds": round(time.monotonic() - given_back, 1),
    }


if __name__ == "__main__":
    print(json.dumps(replug()))
