"""Run `collect` here, over ssh, and in containers; many machines at once."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinna.doctor.finding import Finding
from pinna.doctor.judge import first_broken, judge, parse
from pinna.errors import BrokenError, LookError, PinnaError

SOURCE: Final = Path(__file__).with_name("collect.py")
_AT_ONCE: Final = 50  # ssh clients: each computes for a tenth of a second, and then waits; 2 MB of memory
_CONNECT_SECONDS: Final = 15
_SSH: Final = (
    "ssh",
    "-o",
    "BatchMode=yes",
    "-o",
    f"ConnectTimeout={_CONNECT_SECONDS}",
    "-o",
    "LogLevel=ERROR",
    "-x",
    "-o",
    "ClearAllForwardings=yes",  # a port that is forwarded already must not cost the look
)
_AS_ROOT: Final = (
    'if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then set -- sudo -n "$@"; fi; exec "$@"'
)
_INSPECTED: Final = ("IpcMode", "Devices", "DeviceCgroupRules", "GroupAdd", "Privileged", "CapAdd", "CapDrop")
OPTIONAL: Final = ("power",)  # what may be unseen on a healthy machine


@dataclass(frozen=True, slots=True)
class Request:
    """What to look at: this machine, or `host` by ssh; there, `container` as well, if named."""

    host: str = ""
    container: str = ""
    user: str = ""
    config: str = ""
    seconds: float = 10.0
    deaf: bool = False
    ssh: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return self.host or "this machine"

    def command(self, *command: str) -> list[str]:
        if not self.host:
            return list(command)
        script = ["sh", "-c", _AS_ROOT, "sh", *command]
        return [*_SSH, *self.ssh, "--", self.host, shlex.join(script)]

    @property
    def arguments(self) -> list[str]:
        """For a Python that gets `collect` as its input, but for what is the host's."""
        return ["-", "--seconds", f"{self.seconds:g}", *(["--deaf"] if self.deaf else [])]


@dataclass(frozen=True, slots=True)
class Report:
    """What was seen of one place. `error`: why nothing was; then there are no findings."""

    place: str
    snapshot: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()
    error: PinnaError | None = None

    @property
    def exit_code(self) -> int:
        """0 only when nothing is broken and every link that there is was seen."""
        if first_broken(self.findings):
            return BrokenError.exit_code
        unseen = [one for one in self.findings if one.status == "not seen" and one.link not in OPTIONAL]
        return LookError.exit_code if self.error or unseen else 0


def look(request: Request) -> list[Report]:
    """One report, and one more for a container; what cannot be looked at is a report with its error."""
    reports = []
    try:
        python = "python3" if request.host else sys.executable
        given = ["--user", request.user] if request.user else []
        given += ["--config", request.config] if request.config else []
        snapshot = _collect(request, request.command(python, *request.arguments, *given))
        reports.append(Report(request.place, snapshot, judge(snapshot)))
    except PinnaError as error:
        return [Report(request.place, {}, error=error)]
    if request.container:
        place = f"container {request.container}" + (f" on {request.host}" if request.host else "")
        try:
            command = ("docker", "exec", "-i", request.container, "python3", *request.arguments)
            inside = _collect(request, request.command(*command))
            inside["inspected"] = _inspect(request)
            reports.append(Report(place, inside, judge(inside, snapshot)))
        except PinnaError as error:
            reports.append(Report(place, {}, error=error))
    return reports


def look_at_all(requests: Sequence[Request]) -> Iterator[list[Report]]:
    """Each as soon as it is there."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in as_completed([pool.submit(look, request) for request in requests]):
            yield done.result()


def _collect(request: Request, command: list[str]) -> dict[str, Any]:
    said = _run(command, SOURCE.read_bytes(), request)
    lines = [line for line in said.stdout.decode("utf-8", "replace").splitlines() if line.startswith("{")]
    if said.returncode == 0 and lines:
        return parse(lines[-1])
    raise _failure(request, said)


def _run(command: list[str], given: bytes, request: Request) -> subprocess.CompletedProcess[bytes]:
    patience = request.seconds + 5 + (2 * _CONNECT_SECONDS if request.host else 0)
    try:
        return subprocess.run(  # noqa: S603  (arguments are quoted where a shell reads them)
            command, input=given, capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LookError(
            f"{request.place} did not answer in {patience:g} s",
            hint="Is it overloaded? --seconds gives it more time",
        ) from error
    except OSError as error:
        raise LookError(
            f"cannot start {command[0]}: {error.strerror}", hint=f"Install {command[0]} on this machine"
        ) from error


def _failure(request: Request, said: subprocess.CompletedProcess[bytes]) -> LookError:
    words = said.stderr.decode("utf-8", "replace").strip().splitlines()
    last = words[-1] if words else f"exit code {said.returncode}"
    where = request.place
    if request.host and said.returncode == 255:
        hint = f"`ssh {request.host}` must work without a password; --ssh gives it options"
        return LookError(f"no way into {where}: {last}", hint=hint)
    if "python3" in last and ("not found" in last or "no such file" in last.lower()):
        return LookError(
            f"there is no python3 in it ({where}): {last}", hint="Install python3 there (3.9 or newer)"
        )
    if request.container and ("docker" in last.lower() or "container" in last.lower()):
        return LookError(f"{where}: {last}", hint="`docker ps` lists the containers that run, and needs root")
    return LookError(f"{where} could not be looked at: {last}", hint="It needs python3 (3.9 or newer)")


def _inspect(request: Request) -> dict[str, Any]:
    """How the container was started, as far as sound is concerned: its environment may hold secrets."""
    said = _run(request.command("docker", "inspect", request.container), b"", request)
    try:
        (told,) = json.loads(said.stdout)
        host, mounts = told["HostConfig"], told["Mounts"]
        return {
            **{key: host.get(key) for key in _INSPECTED},
            "User": told["Config"].get("User"),
            "Image": told["Config"].get("Image"),
            "Mounts": [
                {key: mount.get(key) for key in ("Type", "Source", "Destination")} for mount in mounts
            ],
        }
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"docker inspect: {type(error).__name__}"}
