"""What the programs that run on the target share. Standard library only, for the target's own Python."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MICROPHONE = Path("/proc/asound/mic")
COMPOSE = Path("/opt/pinna/probe/compose.yaml")
CONTAINER_SECONDS = 600  # an emulated Pi on a busy host takes minutes to start a container


def run(*command: str, seconds: float = 60) -> dict[str, Any]:
    """What a program says: code, out, err. Code 127 when it is not there, 124 when it takes too long."""
    return start(*command, seconds=seconds)()


def start(*command: str, seconds: float = 60) -> Callable[[], dict[str, Any]]:
    """`run` in two halves: the program works while its caller does, until that asks for the answer."""
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # which `communicate` closes; an image may have no /dev/null
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
        )
    except FileNotFoundError:
        return lambda: {"code": 127, "out": "", "err": f"{command[0]} is not installed"}

    def answer() -> dict[str, Any]:
        try:
            out, err = program.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            program.kill()
            program.communicate()
            return {"code": 124, "out": "", "err": f"{command[0]} did not end within {seconds:g} s"}
        return {"code": program.returncode, "out": out, "err": err.strip()}

    return answer


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # not there, or a device that has just gone
        return ""


def compose(*arguments: str) -> dict[str, Any]:
    """`run` of docker-compose for the probe's container."""
    return run("docker-compose", "--file", str(COMPOSE), *arguments, seconds=CONTAINER_SECONDS)


def no_container() -> dict[str, str]:
    """Why the probe's container cannot be started: `error`, or `not_built`; empty when it can."""
    named = re.search(r"(?m)^ *image: *(\S+)", read(COMPOSE))
    if named is None:
        return {"error": f"{COMPOSE} names no image"}
    # Compose would build it now, which is not a test's to do.
    if run("docker", "image", "inspect", named[1])["code"]:
        return {"not_built": f"its image {named[1]} is not there: run site.yml with --tags docker"}
    return {}


def heard_in_container(said: dict[str, Any]) -> dict[str, Any]:
    """The probe's own JSON, which is the last line that it `said`; or `error`."""
    try:
        heard: dict[str, Any] = json.loads(said["out"].strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = said["err"].splitlines() or [f"it ended with code {said['code']}"]
        return {"error": reason[-1]}
    return heard


def configuration() -> dict[str, Any]:
    """The agent's configuration, or `error`."""
    try:
        return tomllib.loads(Path("/etc/pinna/pinna.toml").read_text())
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def health(settings: dict[str, Any]) -> dict[str, Any]:
    """The body of the agent's /health; `error` when there is none.

    By hand, as importing urllib takes an emulated Pi two seconds.
    """
    http = settings.get("http", {})
    address = (http.get("host", "127.0.0.1"), http.get("port", 8081))
    lines = ["GET /health HTTP/1.0"]
    if http.get("token_file"):
        lines.append(f"Authorization: Bearer {read(Path(http['token_file']))}")
    try:
        with socket.create_connection(address, 20) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        body: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError) as error:
        return {"error": f"port {address[1]}: {error}"}
    return body


def sound_card(number: str) -> Path | None:
    """The sysfs folder of the USB device of a card; None when it is not on USB, or gone."""
    interface = Path(f"/sys/class/sound/card{number}/device").resolve()
    return interface.parent if (interface / "subsystem").resolve().name == "usb" else None
