"""The one table: consistent in itself, with the checks that name its causes, and with its page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.faults.breaking import FROM_SNAPSHOTS
from tests.support.troubleshooting_page import PAGE, with_reference

from pinna.doctor import hardware, programs, sound, view
from pinna.doctor.causes import CAUSES, LINKS, Cause
from pinna.doctor.finding import broken

EXPLAINED_ONLY = {"portaudio-not-initialized"}
"""No machine shows it: it is a program's own error."""


def test_the_page_has_each_cause_as_the_catalogue_has_it() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_reference(page), "run: python -m tests.support.troubleshooting_page"
    assert re.findall(r"(?m)^### (\S+)$", page) == [
        cause.id for link in LINKS for cause in CAUSES.values() if cause.link == link
    ]


@pytest.mark.parametrize("cause", CAUSES.values(), ids=lambda cause: cause.id)
def test_an_entry_says_what_is_seen_and_what_to_do(cause: Cause) -> None:
    assert cause.link in LINKS
    assert cause.seen.endswith((".", "!"))
    assert cause.advice.endswith((".", "?", "}")) or cause.advice.rsplit(maxsplit=1)[-1] in ("audio", "agent")
    assert not cause.title.endswith(".")


def test_links_need_only_earlier_ones() -> None:
    seen: set[str] = set()
    for link in LINKS.values():
        assert set(link.needs) <= seen
        seen.add(link.id)


def named_in_checks() -> set[str]:
    """Every text of the checks' source that is a cause's id."""
    texts = set()
    for module in (hardware, sound, programs):
        assert module.__file__
        for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts & CAUSES.keys()


def test_every_cause_is_named_by_some_check() -> None:
    assert named_in_checks() == CAUSES.keys() - EXPLAINED_ONLY


def test_every_cause_is_named_by_some_test() -> None:
    tests = Path(__file__).parents[2]
    sources = [Path(__file__).with_name("test_judge.py"), *tests.glob("integration/test_doctor*.py")]
    text = "\n".join(source.read_text("utf-8") for source in sources)
    saved = {path.stem.removeprefix("broken-") for path in Path(__file__).parent.glob("snapshots/broken-*")}
    untested = {cause for cause in CAUSES if f'"{cause}"' not in text} - saved
    assert untested == set()


def test_every_cause_is_made_on_a_virtual_pi_or_it_is_said_why_not() -> None:
    sources = (Path(__file__).parents[2] / "faults").glob("*.py")
    text = "\n".join(source.read_text("utf-8").partition("FROM_SNAPSHOTS =")[0] for source in sources)
    assert CAUSES.keys() - FROM_SNAPSHOTS.keys() == {cause for cause in CAUSES if f'"{cause}"' in text}


def test_error_messages_lead_to_causes() -> None:
    for words, cause in (
        ("-10000", "portaudio-not-initialized"),
        ("sum ring buffer", "stale-ipc-objects"),
        ("Invalid input device", "portaudio-sees-nothing"),
        ("microphone-muted", "microphone-muted"),
    ):
        assert cause in [one.id for one in view.find(words)]
    assert view.find("no machine ever said this") == []


def test_a_cure_with_a_gap_is_no_command() -> None:
    assert broken("microphone-stalled", port="").commands == ()


def test_a_cure_is_filled_in() -> None:
    finding = broken("driver-blacklisted", "line", file="/etc/modprobe.d/x.conf")
    assert finding.commands[0].endswith("'/etc/modprobe.d/x.conf'")
    perms = broken("ipc-perm-invalid", file="/etc/asound.conf")
    assert "{2}" in perms.commands[0]
    assert "{{" not in perms.commands[0]


@pytest.mark.parametrize(
    "name", ["/etc/x'; rm -rf /; '.conf", "/etc/$(reboot).conf", "/etc/a\nreboot\n.conf"]
)
def test_a_hostile_name_never_becomes_a_command(name: str) -> None:
    assert broken("alsa-conf-unreadable", file=name, user="pinna").commands == ()


def test_a_hostile_port_or_card_leads_nowhere_else() -> None:
    """Not quoted, as they are part of a path or of what sed replaces: a snapshot may come from a stranger."""
    for name in ("../../../etc/cron.d", "1-1 /etc/passwd", "-1", "x/w/etc/passwd"):
        assert broken("usb-deauthorized", port=name).commands == ()
        assert broken("card-number-changed", file="/etc/asound.conf", card="1", id=name).commands == ()
    assert broken("usb-deauthorized", port="3-1.4").commands
