"""The verbs `record` and `archive`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from pinna.cli.verbs import add_verb, json_flag
from pinna.config import LogConfig, read_secret
from pinna.errors import ProofError

ARCHIVE_TOKEN: Final = "PINNA_ARCHIVE_TOKEN"  # noqa: S105  (the name of a variable)
RECORDER: Final = "/etc/pinna/recorder.toml"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    record = add_verb(
        verbs, "record", _record, "record sound cards and radio streams, with an account of every sample"
    )
    record.add_argument(
        "--config", type=Path, metavar="FILE", help=f"TOML, or an ISR .ini (default: {RECORDER})"
    )
    record.add_argument("--list-devices", action="store_true", help="list what `device` may name, and end")
    record.add_argument("--check", action="store_true", help="say whether the configuration is fine, and end")
    json_flag(record)

    archive = add_verb(verbs, "archive", None, "what `pinna record` has recorded")
    proofs = archive.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = add_verb(
        proofs, "verify", _archive_verify, "prove an archive against its manifests; list every gap"
    )
    verify.add_argument("directory", type=Path, help="the archive's folder")
    verify.add_argument("--source", help="only this one")
    verify.add_argument("--quick", action="store_true", help="lengths and the account only: hash no file")
    json_flag(verify)

    serve = add_verb(proofs, "serve", _archive_serve, "the archive in a browser: play, download, see gaps")
    serve.add_argument("directory", type=Path, help="the archive's folder")
    serve.add_argument("--host", default="127.0.0.1", help="others than loopback need --token-file")
    serve.add_argument("--port", type=int, default=8082, help="port to listen on (default 8082; 0: any)")
    serve.add_argument("--token-file", default="", metavar="FILE", help="a password that everyone must show")
    serve.add_argument(
        "--status-file", type=Path, default=Path("/run/pinna-recorder/status.json"), help="the recorder's"
    )


def _record(options: argparse.Namespace) -> int:
    from pinna import logs  # noqa: PLC0415  (what only the recorder needs is loaded when it runs)
    from pinna.recorder import settings  # noqa: PLC0415
    from pinna.recorder.capture import list_pcms  # noqa: PLC0415
    from pinna.recorder.service import Recorder  # noqa: PLC0415

    if options.list_devices:
        pcms = list_pcms()
        if options.json:
            print(json.dumps([{"name": pcm.name, "description": pcm.description} for pcm in pcms], indent=1))
        else:
            print("\n".join(f"{pcm.name}\n    {pcm.description}" for pcm in pcms) or "ALSA knows no device.")
        return 0
    loaded = settings.load(options.config)
    if options.check:
        print("\n".join([*loaded.notes, f"{options.config or RECORDER}: fine"]))
        return 0
    logs.configure(LogConfig(level=loaded.log_level))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Recorder(loaded) as recorder:
        recorder.run(stop)
    return 0


def _archive_verify(options: argparse.Namespace) -> int:
    from pinna.recorder import proof  # noqa: PLC0415  (used here alone)

    def progress(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    reports = proof.verify_all(options.directory, options.source, hashes=not options.quick, progress=progress)
    progress("")
    print(proof.as_json(reports) if options.json else proof.as_text(reports))
    return ProofError.exit_code if any(report.wrong for report in reports) else 0


def _archive_serve(options: argparse.Namespace) -> int:
    from pinna import logs  # noqa: PLC0415  (what only this server needs is loaded when it runs)
    from pinna.archive.server import Archive  # noqa: PLC0415

    logs.configure(LogConfig())
    token = read_secret(options.token_file, os.environ.get(ARCHIVE_TOKEN)) or ""

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        where = (options.directory, options.status_file, options.host, options.port, token)
        async with Archive(*where) as archive:
            print(f"The archive is at {archive.address} (open it in a browser).", flush=True)
            await stop.wait()

    asyncio.run(run())
    return 0
