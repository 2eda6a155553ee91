"""The verbs of `pinna`. Each returns an exit code; only `run` builds the agent."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pinna import __version__
from pinna.cli import recording
from pinna.cli.verbs import Verb, add_verb, json_flag
from pinna.config import (
    DEFAULT_PATH,
    HTTP_TOKEN,
    HUB_TOKEN,
    KEYS,
    Loaded,
    LogConfig,
    as_toml,
    describe,
    load,
    read_secret,
)
from pinna.doctor import options as doctor_options
from pinna.errors import EXIT_CODES, PinnaError, ProofError, UsageError
from pinna.lean import import_less

DESCRIPTION = """\
Pinna streams a microphone, its echo removed, to a hub, and plays what the hub says.

  pinna demo                            see it work on this machine, without a sound card
  pinna devices                         what PortAudio can open
  pinna run --hub-url http://hub:8080   stream
  pinna top                             watch a running agent
  pinna session mute                    shut its microphone, until `pinna session unmute`
  pinna doctor                          what is wrong with the sound, and the cure
  pinna config example > pinna.toml     every setting, explained
"""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    verb: Verb = options.verb
    try:
        return verb(options)
    except PinnaError as error:
        print(f"pinna: {error.cause}. {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has had enough: `pinna devices | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        "pinna",
        description=DESCRIPTION,
        epilog=f"exit codes:\n{codes}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pinna {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    run = add_verb(verbs, "run", _run, "stream the microphone to the hub until stopped")
    _configuration(run, flags=True)
    run.add_argument(
        "--service",
        action="store_true",
        help="keep trying what only a human can mend (no such device, rejected token) instead of ending: "
        "for systemd; /health tells what is wrong",
    )

    devices = add_verb(
        verbs, "devices", _devices, "list what PortAudio can open, and what `audio.input` may name"
    )
    json_flag(devices)

    doctor = add_verb(
        verbs, "doctor", _doctor, "find what is wrong with the sound, from USB to the hub, and tell the cure"
    )
    doctor_options.arguments(doctor)
    doctor.formatter_class = argparse.RawDescriptionHelpFormatter
    doctor.epilog = doctor_options.EPILOG
    json_flag(doctor)

    _config_verbs(verbs)

    top = add_verb(verbs, "top", _top, "a live view of a running agent")
    _configuration(top, flags=False)
    top.add_argument("--url", help="the agent's address (default: from the configuration)")
    top.add_argument("--once", action="store_true", help="print the figures once and end")
    json_flag(top)

    session = add_verb(
        verbs, "session", _session, "tell or change whether a running agent's microphone is open"
    )
    session.add_argument(
        "action",
        nargs="?",
        choices=("open", "close", "mute", "unmute"),
        help="open or close a session; mute the device (a restart does not end it) or unmute; nothing: tell",
    )
    _configuration(session, flags=False)
    session.add_argument("--url", help="the agent's address (default: from the configuration)")
    json_flag(session)

    sessions = add_verb(
        verbs, "sessions", _sessions, "the log of sessions: begin, length, who began and ended it"
    )
    _configuration(sessions, flags=False)
    sessions.add_argument("--last", type=int, default=20, metavar="N", help="how many (default 20)")
    json_flag(sessions)

    hub = add_verb(verbs, "hub", _hub, "a small hub, for trying things and for tests")
    hub.add_argument(
        "mode",
        nargs="?",
        choices=("echo", "say", "record", "listen"),
        default="echo",
        help="what the hub does with devices: send back what they say (default), say a WAV file, record them "
        "to WAV files, or only listen",
    )
    hub.add_argument("path", nargs="?", type=Path, help="say: the WAV file; record: the folder")
    hub.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; others can reach it only with a token"
    )
    hub.add_argument(
        "--port", type=int, default=8080, help="port to listen on (default 8080; 0: any free one)"
    )
    hub.add_argument(
        "--token-file", default="", metavar="FILE", help="a bearer token that everyone must show"
    )
    hub.add_argument("--repeat", action="store_true", help="say: again and again")
    hub.add_argument("--on-speech", action="store_true", help="say: each time the device has spoken")
    hub.add_argument(
        "--voice",
        action="store_true",
        help="also answer calls over a WebSocket (`hub.dialect = websocket`), and say back what is said",
    )
    hub.add_argument("--delay-ms", type=int, default=0, help="echo: how much later")
    json_flag(hub)

    recording.add(verbs)
    demo = add_verb(
        verbs, "demo", _demo, "the whole chain on this machine, without a sound card, and what it proved"
    )
    demo.add_argument("--voice", action="store_true", help="instead: a session that a spoken wake word opens")
    demo.add_argument("--seconds", type=float, default=20.0, help="for how long to stream (default 20)")
    json_flag(demo)
    return parser


def _config_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    config = add_verb(verbs, "config", None, "check, show or write the configuration")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = add_verb(actions, "check", _config_check, "say whether a configuration would be accepted")
    check.add_argument("file", nargs="?", type=Path, help=f"the file (default: {DEFAULT_PATH})")
    show = add_verb(actions, "show", _config_show, "every setting in force, and where it comes from")
    _configuration(show, flags=True)
    json_flag(show)
    add_verb(actions, "example", _config_example, "print a configuration file with every setting explained")


def _configuration(parser: argparse.ArgumentParser, *, flags: bool) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the configuration file (default: $PINNA_CONFIG, or {DEFAULT_PATH} if there)",
    )
    if not flags:
        return
    group = parser.add_argument_group(
        "settings",
        "Each is also a key of the configuration file and an environment variable: --hub-url is `url` in "
        "[hub] and PINNA_HUB_URL. Flags win over the environment, the environment over the file.",
    )
    for key in KEYS.values():
        metavar = "{" + ",".join(map(str, key.choices)) + "}" if key.choices else "VALUE"
        group.add_argument(key.flag, dest=key.name, metavar=metavar, help=key.help.replace("%", "%%"))


def _load(options: argparse.Namespace) -> Loaded:
    given = {name: value for name in KEYS if (value := getattr(options, name, None)) is not None}
    return load(options.config, os.environ, given)


def _run(options: argparse.Namespace) -> int:
    loaded = _load(options)
    import_less(aiortc=loaded.config.hub.dialect != "websocket")
    from pinna import logs  # noqa: PLC0415  (what only `run` needs is loaded when it runs)
    from pinna.app import Agent  # noqa: PLC0415

    logs.configure(loaded.config.log)

    async def run() -> None:
        await Agent(loaded.config, service=options.service).run()

    asyncio.run(run())
    return 0


def _devices(options: argparse.Namespace) -> int:
    from pinna.audio import portaudio  # noqa: PLC0415  (PortAudio starts when it is imported)
    from pinna.audio.card import list_cards  # noqa: PLC0415

    cards = list_cards(portaudio.load())
    if options.json:
        rows = [
            {
                "index": card.index,
                "name": card.name,
                "inputs": card.inputs,
                "outputs": card.outputs,
                "default_rate": card.default_rate,
                "default_input": card.is_default_input,
                "default_output": card.is_default_output,
            }
            for card in cards
        ]
        print(json.dumps(rows, indent=1))
    elif not cards:
        print("PortAudio sees no device. A device that another program holds is not in its list, either.")
    else:
        print(f"{'index':>5}  {'in':>3}  {'out':>3}  {'rate':>6}  name")
        for card in cards:
            marks = " (default input)" * card.is_default_input + " (default output)" * card.is_default_output
            figures = f"{card.index:>5}  {card.inputs:>3}  {card.outputs:>3}  {card.default_rate:>6.0f}"
            print(f"{figures}  {card.name}{marks}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from pinna.doctor import command  # noqa: PLC0415  (used here alone)

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)

    return command.run(options, lambda text: print(text, flush=True), progress)


def _config_check(options: argparse.Namespace) -> int:
    loaded = load(options.file, {}, {})
    print(f"{loaded.path or 'no file: the defaults'}: fine")
    return 0


def _config_show(options: argparse.Namespace) -> int:
    settings = describe(_load(options))
    if options.json:
        rows = {s.key: {"value": s.value, "source": s.source, "help": s.help} for s in settings}
        print(json.dumps(rows, indent=1))
    else:
        width = max(len(s.key) for s in settings)
        for setting in settings:
            print(f"{setting.key:<{width}}  {setting.value!s:<24}  {setting.source}")
    return 0


def _config_example(_options: argparse.Namespace) -> int:
    from pinna.config import Config  # noqa: PLC0415  (used here alone)

    print(as_toml(Config()), end="")
    return 0


def _top(options: argparse.Namespace) -> int:
    from pinna import top  # noqa: PLC0415  (used here alone)

    http = _load(options).config.http
    url = options.url or f"http://{http.host}:{http.port}"
    token = read_secret(http.token_file, os.environ.get(HTTP_TOKEN))
    if options.json:
        print(json.dumps(top.fetch(url, token), indent=1))
    elif options.once:
        top.show(top.fetch(url, token))
    else:
        top.watch(lambda: top.fetch(url, token))
    return 0


def _session(options: argparse.Namespace) -> int:
    from pinna import top  # noqa: PLC0415  (used here alone)
    from pinna.session import kept  # noqa: PLC0415  (used here alone)

    config = _load(options).config
    token = read_secret(config.http.token_file, os.environ.get(HTTP_TOKEN))
    if token is None and options.action and not options.url:  # it is of the agent here, and only asked then
        token = kept.read_token(kept.folder_of_service(config))
    url = options.url or f"http://{config.http.host}:{config.http.port}"
    body = top.session(url, options.action, token)
    if options.json:
        print(json.dumps(body, indent=1))
    else:
        unchanged = ", unchanged" if body.get("changed") is False else ""
        print(f"{body['state']}{unchanged}, for {body['for_seconds']:.0f} s, by {body['by']}")
    return 0


def _sessions(options: argparse.Namespace) -> int:
    from pinna.session import kept  # noqa: PLC0415  (used here alone)

    if options.last < 1:
        raise UsageError(f"--last is {options.last}", hint="Give 1 or more")
    where = kept.folder_of_service(_load(options).config)
    entries, torn = kept.read_log(where, options.last)
    if torn:
        left_out = f"{torn} line{'s' if torn > 1 else ''} of {where / kept.LOG} or the one before left out"
        print(f"{left_out}: torn, as a power cut leaves them", file=sys.stderr)
    if options.json:
        print(json.dumps(entries, indent=1))
    elif not entries and not torn:
        print('No session has been logged. With `session.mode = "always"` there are none.')
    for entry in () if options.json else entries:
        errors = "".join(f"  ERROR {error}" for error in entry["errors"])
        who = f"begun by {entry['opened_by']}, ended by {entry['ended_by']}"
        print(f"{entry['began']}  {entry['seconds']:>7.1f} s  {who}{errors}")
    return 0


def _hub(options: argparse.Namespace) -> int:
    from pinna import logs  # noqa: PLC0415  (what only the hub needs is loaded when it runs)
    from pinna.hub.options import HubOptions  # noqa: PLC0415
    from pinna.hub.server import Hub  # noqa: PLC0415

    logs.configure(LogConfig())
    token = read_secret(options.token_file, os.environ.get(HUB_TOKEN))
    if options.path is not None and options.mode not in ("say", "record"):
        raise UsageError(f"`pinna hub {options.mode}` takes no file", hint="`pinna hub --help` tells more")
    hub_options = HubOptions(
        host=options.host,
        port=options.port,
        token=token or "",
        mode=options.mode,
        echo_delay_ms=options.delay_ms,
        say_file=options.path if options.mode == "say" else None,
        say_on="speech" if options.on_speech else "connect",
        say_repeat=options.repeat,
        record_dir=options.path if options.mode == "record" else None,
        voice=options.voice,
    )

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Hub(hub_options) as hub:
            if options.json:
                print(json.dumps({"address": hub.address}), flush=True)
            else:
                print(f"The hub is at {hub.address} (open it in a browser). A device comes with:", flush=True)
                print(f"  pinna run --hub-url {hub.address}", flush=True)
                if options.voice:
                    print("and calls, with any token in PINNA_HUB_TOKEN unless the hub has one, with:")
                    flags = f"--hub-dialect websocket --hub-url {hub.address}/v1/connect"
                    print(f"  pinna run {flags} --session-mode wakeword", flush=True)
            await stop.wait()

    asyncio.run(run())
    return 0


def _demo(options: argparse.Namespace) -> int:
    from pinna.demo import run, summary, voice  # noqa: PLC0415  (used here alone)

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if options.voice:
        seen = voice.run(progress)
        print(json.dumps(asdict(seen), indent=1) if options.json else voice.text(seen))
        return 0 if seen.proven else ProofError.exit_code
    if not 1 <= options.seconds <= 3600:
        raise UsageError(f"--seconds is {options.seconds:g}", hint="Give 1 to 3600")
    show = not options.json and sys.stdout.isatty()
    proof = run.run(options.seconds, show=show, say=progress)
    print(json.dumps(proof.as_dict(), indent=1) if options.json else summary.text(proof))
    return 0 if proof.proven else ProofError.exit_code
