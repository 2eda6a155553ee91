"""The reference part of docs/configuration.md, made from the keys. Run as a program, it writes it."""

from __future__ import annotations

from pathlib import Path

from pinna.config import KEYS, Key

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
START, END = "<!-- keys:", "<!-- end of keys -->"


def reference() -> str:
    """One table for each table of the file."""
    tables: dict[str, list[str]] = {}
    for name, key in KEYS.items():
        table, _, last = name.rpartition(".")
        tables.setdefault(table, []).append(_row(last, key))
    head = "| Key | Default | Allowed | Environment | What it is for |\n|---|---|---|---|---|\n"
    return "\n".join(
        f"### {f'`[{table}]`' if table else 'Top level'}\n\n{head}" + "".join(rows)
        for table, rows in tables.items()
    )


def with_reference(page: str) -> str:
    """The page with its reference made anew."""
    before, marker, rest = page.partition(START)
    comment, newline, _ = rest.partition("\n")
    _, end, after = page.partition(END)
    return f"{before}{marker}{comment}{newline}\n{reference()}\n{end}{after}"


def _row(name: str, key: Key) -> str:
    # The only default that differs from machine to machine.
    default = "the host name" if key.name == "device_id" else f"`{_plain(key)}`"
    return f"| `{name}` | {default} | {key.allowed} | `{key.variable}` | {key.help} |\n"


def _plain(key: Key) -> str:
    if isinstance(key.default, tuple):
        return "[]"
    return f'"{key.default}"' if isinstance(key.default, str) else str(key.default)


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text("utf-8")), "utf-8")
