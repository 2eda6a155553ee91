"""How a verb gets its place on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Verb = Callable[[argparse.Namespace], int]


def add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, verb: Verb | None, summary: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    if verb is not None:
        parser.set_defaults(verb=verb)
    return parser


def json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
