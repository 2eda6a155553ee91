from __future__ import annotations

from collections.abc import Iterator

import pinna.errors
from pinna.errors import EXIT_CODES, ConfigError, PinnaError


def kinds(of: type[PinnaError] = PinnaError) -> Iterator[type[PinnaError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


# Those of other modules would be private refinements: they answer with the code of what they refine.
OURS = [kind for kind in kinds() if kind.__module__ == pinna.errors.__name__]


def test_every_kind_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in OURS]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)  # the shell's own start at 126


def test_the_table_has_all_of_them_and_nothing_else() -> None:
    assert {0: "all is well"} | {kind.exit_code: kind.meaning for kind in OURS} == EXIT_CODES


def test_every_kind_says_what_it_means() -> None:
    assert len({kind.meaning for kind in OURS}) == len(OURS)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = {}
    for line in (pinna.errors.__doc__ or "").splitlines():
        words = line.replace("├──", "").replace("└──", "").split()
        if len(words) > 2 and words[0].endswith("Error") and words[1].isdigit():
            drawn[words[0]] = int(words[1])
    assert drawn == {kind.__name__: kind.exit_code for kind in OURS}


def test_an_error_carries_cause_and_cure() -> None:
    error = ConfigError("pinna.toml line 3: http.port is -1", hint="Give a whole number", permanent=True)
    assert (error.cause, error.hint, error.permanent) == (error.args[0], "Give a whole number", True)
    assert str(error) == "pinna.toml line 3: http.port is -1. Give a whole number"
    assert not PinnaError("x", hint="y").permanent
