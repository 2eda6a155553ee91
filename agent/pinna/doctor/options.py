"""The flags of `pinna doctor`; apart from the rest, as every verb has to know them."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Final

EPILOG: Final = """\
examples:
  sudo pinna doctor                              this machine, and what the agent has of it
  sudo pinna doctor --container robot            a container as well, compared with this machine
  pinna doctor --host pi@kitchen --host pi@hall  others, by ssh: nothing need be installed there but Python
  pinna doctor --save case.json                  for somebody who helps; secrets are left out
  pinna doctor --snapshot case.json              what that somebody does with it
  pinna doctor --explain 'sum ring buffer'       what an error message means: words of it, or all of it

exit codes: 0 healthy, 13 broken, 14 not all could be looked at, 12 no snapshot"""


def arguments(parser: ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="[USER@]HOST",
        help="look there, by ssh; may be repeated",
    )
    what.add_argument(
        "--snapshot", type=Path, metavar="FILE", help="judge what was saved before; - is standard input"
    )
    what.add_argument("--explain", metavar="CAUSE", help="a cause, by its name or by an error message")
    parser.add_argument(
        "--container", default="", metavar="NAME", help="look into this running container as well"
    )
    parser.add_argument(
        "--user", default="", help="examine the sound that this user has (default: the agent's)"
    )
    parser.add_argument(
        "--config", default="", metavar="FILE", help="the agent's configuration there, if elsewhere"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write what was seen as well")
    parser.add_argument("--watch", action="store_true", help="look again and again, and tell what changes")
    parser.add_argument("--deaf", action="store_true", help="open no sound device")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a look may take (default 10)")
    parser.add_argument(
        "--ssh", default="", metavar="OPTIONS", help="further options for ssh: '-p 2222 -i key'"
    )
