"""Runs on the target, as root: take the microphone's USB device from its driver, and give it back.

To the kernel, to udev and to programs this is what pulling the plug and putting it in again is. Prints
{"gone": true, "back": true, "heard": true, "streams": [before, after], "seconds": 4.2, "container": {...}},
of which `seconds` is from giving it back to the agent sending its sound again, and `container` what the
probe then hears in a container that was started before; null where none can be. Or {"error": ...}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.target.remote.common import (
    CONTAINER_SECONDS,
    MICROPHONE,
    compose,
    configuration,
    health,
    heard_in_container,
    no_container,
    run,
    sound_card,
)

PATIENCE_SECONDS = 120
CONTAINER = "pinna-replugged"


def until(condition: Callable[[], bool]) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def container() -> Iterator[Callable[[], dict[str, Any] | None]]:
    """A running container of the probe's image; what is yielded tells what the probe hears in it."""
    if no_container():
        yield lambda: None
        return
    run("docker", "rm", "--force", CONTAINER)  # one that a run cut short has left
    started = compose("run", "--detach", "--rm", "--name", CONTAINER, "--entrypoint", "sleep", "probe", "1h")
    program = ("docker", "exec", CONTAINER, "python3", "/opt/probe/probe.py")
    try:
        if started["code"]:
            yield lambda: {"error": (started["err"].splitlines() or ["docker-compose failed"])[-1]}
        else:
            yield lambda: heard_in_container(run(*program, seconds=CONTAINER_SECONDS))
    finally:
        run("docker", "rm", "--force", CONTAINER)


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

    switch = usb / "authorized"
    with container() as in_container:
        switch.write_text("0")
        try:
            gone = until(lambda: not MICROPHONE.exists())
        finally:
            switch.write_text("1")
            given_back = time.monotonic()
        back = until(MICROPHONE.exists)
        resumed = until(heard)
        seconds = time.monotonic() - given_back
        return {
            "gone": gone,
            "back": back,
            "heard": resumed,
            "streams": [streams, after.get("audio", {}).get("streams_opened")],
            "seconds": round(seconds, 1),
            "container": in_container(),
        }


if __name__ == "__main__":
    print(json.dumps(replug()))
