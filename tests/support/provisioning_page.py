"""The reference part of docs/provisioning.md, made from the roles' specifications. Run it to write it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "provisioning.md"
START, END = "<!-- variables:", "<!-- end of variables -->"


def reference() -> str:
    """One table for each role of site.yml, in its order."""
    (play,) = yaml.safe_load((ROOT / "ansible" / "site.yml").read_text("utf-8"))
    return "\n".join(_table(role["role"]) for role in play["roles"])


def with_reference(page: str) -> str:
    """The page with its reference made anew."""
    before, marker, rest = page.partition(START)
    comment, newline, _ = rest.partition("\n")
    _, end, after = page.partition(END)
    return f"{before}{marker}{comment}{newline}\n{reference()}\n{end}{after}"


def _table(role: str) -> str:
    text = (ROOT / "ansible" / "roles" / role / "meta" / "argument_specs.yml").read_text("utf-8")
    spec = yaml.safe_load(text)["argument_specs"]["main"]
    head = "| Variable | Type | Default | What it is for |\n|---|---|---|---|\n"
    rows = [_row(name, option) for name, option in spec["options"].items()]
    table = f"{head}{''.join(rows)}" if rows else "It has no variables.\n"
    return f"### {role}: {spec['short_description']}\n\n{table}"


def _row(name: str, option: dict[str, Any]) -> str:
    description = option["description"]
    text = " ".join(description) if isinstance(description, list) else description
    if choices := option.get("choices"):
        text = f"One of {', '.join(f'`{choice}`' for choice in choices)}. {text}"
    default = f"`{json.dumps(option['default'])}`" if "default" in option else ""
    text = re.sub(r"C\(([^)]*)\)", r"`\1`", text.strip())
    return f"| `{name}` | {option['type']} | {default} | {text} |\n"


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text("utf-8")), "utf-8")
