"""Each role's argument_specs describe exactly its defaults, and the defaults satisfy them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).parents[2] / "ansible" / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["options"]


def defaults(role: str) -> dict[str, Any]:
    path = ROLES / role / "defaults" / "main.yml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def is_expression(value: object) -> bool:
    """Whether Ansible computes this value, or a part of it, at run time."""
    return "{{" in str(value)


def test_there_are_roles() -> None:
    assert {"preflight", "base", "audio"} <= set(NAMES)


@pytest.mark.parametrize("role", NAMES)
def test_options_are_the_defaults_and_what_is_required(role: str) -> None:
    required = {name for name, option in options(role).items() if option.get("required")}
    assert set(options(role)) - required == set(defaults(role))
    assert not required & set(defaults(role))


@pytest.mark.parametrize("role", NAMES)
def test_every_option_has_a_type_and_a_description(role: str) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role}_"), name
        assert option.get("type"), name
        assert option.get("description"), name


@pytest.mark.parametrize("role", NAMES)
def test_a_default_is_written_the_same_in_both_places(role: str) -> None:
    for name, option in options(role).items():
        if "default" in option:
            assert option["default"] == defaults(role)[name], name


@pytest.mark.parametrize("role", NAMES)
def test_defaults_satisfy_their_types(role: str) -> None:
    """Not what is computed at run time: the role itself checks that when it starts."""
    known = {name: value for name, value in defaults(role).items() if not is_expression(value)}
    spec = {name: option for name, option in options(role).items() if name in known}
    result = ArgumentSpecValidator(spec).validate(known)
    assert not result.error_messages


@pytest.mark.parametrize("role", NAMES)
def test_private_variables_are_named_so(role: str) -> None:
    path = ROLES / role / "vars" / "main.yml"
    for name in (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}:
        assert name.startswith(f"_{role}_"), name


READ_AS = {"bool": r" \| bool", "int": r" \| int"}


@pytest.mark.parametrize("role", NAMES)
def test_switches_and_numbers_are_converted_where_they_are_used(role: str) -> None:
    """`-e key=value` brings strings, and so does `key=false` in an inventory: "false" would hold."""
    sources = [path for path in ROLES.parent.rglob("*") if path.suffix in {".yml", ".j2"}]
    for name, option in options(role).items():
        if option["type"] not in READ_AS:
            continue
        logic = rf"(?:if|not|or|and|when:|\() *{name}\b|\b{name} *[<>=]|^ +{name} or"
        converted = rf"{name}{READ_AS[option['type']]}\b"
        for source in sources:
            for line in source.read_text().splitlines():
                if re.search(logic, line):
                    assert re.search(converted, line), f"{source.name}: {line}"
