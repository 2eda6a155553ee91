"""What `pinna doctor` does: look, judge, show; or judge what was saved; or explain."""

from __future__ import annotations

import json
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from pinna.doctor import view
from pinna.doctor.causes import CAUSES
from pinna.doctor.judge import judge, parse
from pinna.doctor.looking import Report, Request, look, look_at_all
from pinna.errors import BrokenError, LookError, SnapshotError, UsageError

Say = Callable[[str], None]
WATCH_SECONDS: Final = 2.0
MAX_SNAPSHOT_BYTES: Final = 64 << 20


def run(options: Namespace, say: Say, progress: Say) -> int:
    """Returns the exit code. `say` is for results, `progress` for a person who waits."""
    if options.explain is not None:
        return _explain(options.explain, say)
    if not 1 <= options.seconds <= 600:
        raise UsageError(f"--seconds is {options.seconds:g}", hint="Give 1 to 600")
    if options.snapshot:
        return _show(_saved(options.snapshot), options, say)
    try:
        ssh = tuple(shlex.split(options.ssh))
    except ValueError as error:
        raise UsageError(f"--ssh is {options.ssh!r}: {error}", hint="Quote it as for a shell") from error
    requests = [
        Request(
            host=host,
            container=options.container,
            user=options.user,
            config=options.config,
            seconds=options.seconds,
            deaf=options.deaf,
            ssh=ssh,
        )
        for host in options.host or [""]
    ]
    if options.watch:
        if len(requests) > 1 or options.container or options.json:
            raise UsageError(
                "--watch follows one machine, for a person",
                hint="Leave out --container, --json, or all hosts but one",
            )
        _watch(requests[0], say, progress)
    progress(f"looking at {', '.join(request.place for request in requests[:5])}{' …' * (len(requests) > 5)}")
    reports: list[Report] = []
    for some in look_at_all(requests):
        reports += some
        if not options.json:
            for report in some:
                say(view.drawn(report, colour=sys.stdout.isatty()))
    if options.save:
        _save(options.save, reports)
        progress(f"saved to {options.save}")
    if options.json:
        return _show(reports, options, say)
    if len(reports) > 1:
        say(view.summary(reports))
    return _code(reports)


def _show(reports: list[Report], options: Namespace, say: Say) -> int:
    if options.json:
        say(json.dumps([view.as_dict(report) for report in reports], indent=1))
    else:
        for report in reports:
            say(view.drawn(report, colour=sys.stdout.isatty(), saved=True))
    return _code(reports)


def _code(reports: list[Report]) -> int:
    codes = {report.exit_code for report in reports}
    return next((code for code in (BrokenError.exit_code, LookError.exit_code) if code in codes), 0)


def _save(path: Path, reports: list[Report]) -> None:
    """Whole, or not at all: what was saved there before stays until then. Raises UsageError.

    Names of users and programs are in it: it is made for its owner alone, and through nobody's link.
    """
    saved = [{"place": report.place, "snapshot": dict(report.snapshot)} for report in reports]
    text = json.dumps({"pinna_doctor": 1, "places": saved}, indent=1) + "\n"
    try:
        with NamedTemporaryFile(
            "w", encoding="utf-8", prefix=f".{path.name}.", dir=path.parent, delete=False
        ) as out:
            part = Path(out.name)
            try:
                out.write(text)
                out.flush()
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"--save: {path} cannot be written: {error.strerror}",
            hint="Give a file in a folder that exists, that you may write to, and that has room",
        ) from error


def _saved(path: Path) -> list[Report]:
    """Of one snapshot, or of what --save wrote: a container comes after its host. Raises SnapshotError."""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            data = file.read(MAX_SNAPSHOT_BYTES)
    except OSError as error:
        raise SnapshotError(
            f"{path}: {error.strerror}", hint="`pinna doctor --save FILE` makes one"
        ) from error
    text = data.decode("utf-8", "replace")
    try:
        bundle = json.loads(text)
        places = (
            bundle.get("places") if isinstance(bundle, dict) and bundle.get("pinna_doctor") == 1 else None
        )
    except (ValueError, RecursionError):
        places = None  # `parse` says what is wrong
    if not isinstance(places, list):
        return [_judged("snapshot", parse(text), None)]
    reports: list[Report] = []
    host: dict[str, Any] | None = None
    for place in places:
        name, inner = (place.get("place"), place.get("snapshot")) if isinstance(place, dict) else (None, None)
        if not inner:
            reports.append(
                Report(str(name), {}, error=LookError("nothing was seen of it", hint="Look again"))
            )
            continue
        snapshot = parse(json.dumps(inner))
        inside = str(name).startswith("container ")
        reports.append(_judged(str(name), snapshot, host if inside else None))
        host = host if inside else snapshot
    return reports


def _judged(place: str, snapshot: dict[str, Any], host: dict[str, Any] | None) -> Report:
    return Report(place, snapshot, judge(snapshot, host))


def _watch(request: Request, say: Say, progress: Say) -> None:
    """Until interrupted."""
    progress(f"looking at {request.place}, and again every few seconds; Ctrl-C ends it")
    colour, last = sys.stdout.isatty(), None
    while True:
        (report,) = look(request)
        if last is None or bool(report.error) != bool(last.error):
            say(view.drawn(report, colour=colour))
        else:
            for line in view.changes(last.findings, report.findings, colour=colour):
                say(f"{time.strftime('%H:%M:%S')}  {line}")
            if view.verdict(report) != view.verdict(last):
                for line in view.verdict(report):
                    say(f"{time.strftime('%H:%M:%S')}  {line}")
        last = report
        time.sleep(WATCH_SECONDS)


def _explain(words: str, say: Say) -> int:
    found = view.find(words)
    if not found:
        raise UsageError(f"no cause is called {words!r}, or says so", hint=f"There are: {', '.join(CAUSES)}")
    say("\n\n".join(view.explained(cause) for cause in found))
    return 0
