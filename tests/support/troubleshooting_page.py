"""The causes in docs/troubleshooting/README.md, made from the doctor's catalogue. Run it to write them."""

from __future__ import annotations

from pathlib import Path

from pinna.doctor.causes import CAUSES, LINKS, Cause

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting" / "README.md"
START, END = "<!-- causes:", "<!-- end of causes -->"


def reference() -> str:
    """One heading for each link, and below it one for each of its causes."""
    parts = []
    for link in LINKS.values():
        causes = [cause for cause in CAUSES.values() if cause.link == link.id]
        parts.append(f"## {link.title[:1].upper()}{link.title[1:]}\n\n" + "\n".join(map(_entry, causes)))
    return "\n".join(parts)


def with_reference(page: str) -> str:
    """The page with its causes made anew."""
    before, marker, rest = page.partition(START)
    comment, newline, _ = rest.partition("\n")
    _, end, after = page.partition(END)
    return f"{before}{marker}{comment}{newline}\n{reference()}\n{end}{after}"


def _entry(cause: Cause) -> str:
    title = f"{cause.title[:1].upper()}{cause.title[1:]}."
    commands = "".join(f"    {command}\n" for command in cause.shown)
    return f"### {cause.id}\n\n{title} Seen: {cause.seen}\n\nCure: {cause.advice}\n" + (
        commands and f"\n{commands}"
    )


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text("utf-8")), "utf-8")
