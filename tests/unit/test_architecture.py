"""Imports point one way. Read from the syntax tree, so imports inside functions count as well.

A part is a module or package directly below `pinna`. Each may import itself and what its row names.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[2] / "agent"
PACKAGE = AGENT / "pinna"

DATA = {"frame", "errors"}
FLOW = DATA | {"flow", "config", "metrics"}

MAY_IMPORT: dict[str, set[str]] = {
    # the language everything else speaks
    "frame": set(),
    "errors": set(),
    "flow": DATA,
    "config": DATA,
    "metrics": set(),
    "lean": set(),
    "health": set(),
    "supervisor": {"errors", "health"},
    # ways out for people and machines
    "logs": {"config"},
    "exposition": {"metrics"},
    "http": {"errors", "config", "exposition"},
    "page": set(),
    # the parts; none knows another
    "audio": FLOW,
    "links": FLOW,
    "session": FLOW,
    "recorder": {"errors", "health"},
    "archive": {"errors", "page", "recorder"},
    "doctor": {"errors", "config"},
    "hub": FLOW | {"links", "logs", "page"},
    # what puts them together
    "telemetry": FLOW | {"audio", "links", "session", "health"},
    "app": FLOW
    | {"audio", "links", "session", "health", "supervisor", "logs", "exposition", "http", "telemetry"},
}
SEES_EVERYTHING = {"cli", "demo", "top", "__main__"}
"""Commands. They start parts, mostly as programs; no part may import them."""

STANDARD_LIBRARY_ONLY = ("pinna.doctor.collect",)
"""Piped into a bare Python, over ssh or into a container."""
EXAMINED = {"pyaudio"}
"""What it imports in a child, to see whether that works."""


def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree, of everything below agent/pinna."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(AGENT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


TREES = modules()


def imports(name: str, tree: ast.Module, trees: dict[str, ast.Module] = TREES) -> Iterator[str]:
    """The modules it imports, dotted; `from pinna import x` is pinna.x where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: a relative import hides where it points"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in trees else module
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "importlib.import_module",
        ):
            target = node.args[0] if node.args else None
            assert isinstance(target, ast.Constant), f"{name} line {node.lineno}: an import nobody can follow"
            yield str(target.value)


def part(module: str) -> str | None:
    """The part a module of ours belongs to; None for the package itself and for foreign modules."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "pinna" and rest else None


def parts_imported(name: str) -> set[str]:
    return {of for module in imports(name, TREES[name]) if (of := part(module)) is not None} - {part(name)}


OURS = [name for name in TREES if part(name)]


@pytest.mark.parametrize("name", OURS)
def test_every_module_is_in_the_table_and_keeps_to_it(name: str) -> None:
    of = part(name)
    if of in SEES_EVERYTHING:
        return
    assert of in MAY_IMPORT, f"{name} is new: give it a row, and docs/architecture.md a line"
    assert parts_imported(name) <= MAY_IMPORT[of]


def test_the_table_goes_round_nowhere() -> None:
    """What it allows is a partial order, so no two parts can come to need each other."""
    left = dict(MAY_IMPORT)
    while ready := {of for of, allowed in left.items() if not allowed & left.keys()}:
        left = {of: allowed for of, allowed in left.items() if of not in ready}
    assert not left


def test_no_part_imports_a_command() -> None:
    assert not SEES_EVERYTHING & set().union(*MAY_IMPORT.values())


def test_sound_and_network_meet_in_the_composition_root_alone() -> None:
    both = {part(name) for name in OURS if {"audio", "links"} <= parts_imported(name)}
    assert both <= {"app", "telemetry"}


def test_the_package_itself_imports_nothing() -> None:
    assert list(imports("pinna", TREES["pinna"])) == []


@pytest.mark.parametrize("name", TREES)
def test_the_program_does_not_import_its_tests(name: str) -> None:
    assert not {
        module for module in imports(name, TREES[name]) if module.partition(".")[0] in ("tests", "pytest")
    }


def test_what_runs_in_a_bare_python_imports_only_that() -> None:
    for name in (name for name in TREES if name.startswith(STANDARD_LIBRARY_ONLY)):
        modules = imports(name, TREES[name])
        foreign = {module for module in modules if not module.startswith(STANDARD_LIBRARY_ONLY)}
        assert {module.partition(".")[0] for module in foreign} - EXAMINED <= sys.stdlib_module_names


@pytest.mark.parametrize("name", TREES)
def test_only_the_command_line_prints(name: str) -> None:
    if part(name) == "cli":
        return
    calls = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]


SMALL = {"pinna.audio": ast.parse(""), "pinna.audio.dsp": ast.parse("")}


class TestOfThisTest:
    """It must see what it is there to see."""

    @pytest.mark.parametrize(
        ("source", "module"),
        [
            ("import pinna.audio", "pinna.audio"),
            ("import pinna.audio.dsp as d", "pinna.audio.dsp"),
            ("from pinna import audio", "pinna.audio"),
            ("from pinna.audio import dsp", "pinna.audio.dsp"),
            ("from pinna.audio import Engine", "pinna.audio"),
            ("def f():\n    from pinna.audio import dsp", "pinna.audio.dsp"),
            ("if TYPE_CHECKING:\n    import pinna.audio", "pinna.audio"),
            ("importlib.import_module('pinna.audio')", "pinna.audio"),
            ("__import__('pinna.audio')", "pinna.audio"),
        ],
    )
    def test_every_way_to_import_is_seen(self, source: str, module: str) -> None:
        assert list(imports("x", ast.parse(source), SMALL)) == [module]

    @pytest.mark.parametrize("source", ["from . import audio", "from .audio import dsp", "__import__(name)"])
    def test_ways_that_hide_it_are_refused(self, source: str) -> None:
        with pytest.raises(AssertionError):
            list(imports("x", ast.parse(source), SMALL))

    def test_the_parts_are_found(self) -> None:
        assert {
            "pinna.frame",
            "pinna.flow.ring",
            "pinna.config",
            "pinna.audio.aec",
            "pinna.app",
        } <= TREES.keys()
        assert parts_imported("pinna.flow.ring") == {"frame"}
