"""What the collector concludes by itself; that it looks for real is shown in tests/integration."""

from __future__ import annotations

import re

import pytest

from pinna.doctor.collect import CARDS, DEFINES, PERMS, clean, kind_of_container

OVERLAY = "22 1 0:20 / / ro,relatime - overlay overlay ro,lowerdir=/lower,upperdir=/upper"
PLAIN = "22 1 254:0 / / rw,noatime - ext4 /dev/vda rw"


@pytest.mark.parametrize(
    ("root", "there", "kind"),
    [
        (PLAIN, {"/run/systemd/system"}, ""),
        (PLAIN, set(), ""),
        (OVERLAY, set(), "container"),
        (OVERLAY, {"/run/systemd/system"}, ""),
        (OVERLAY, {"/run/systemd/system", "/run/systemd/container"}, "container"),
        (OVERLAY, {"/.dockerenv"}, "docker"),
        (PLAIN, {"/run/.containerenv"}, "podman"),
    ],
)
def test_a_pi_with_its_card_kept_read_only_is_no_container(root: str, there: set[str], kind: str) -> None:
    assert kind_of_container(root, there.__contains__) == kind


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("token=a1", "token=***"),
        ("hub_token: a1, port=1", "hub_token: ***, port=1"),
        ('{"api-key": "a1"}', '{"api-key": ***}'),
        ("token   =   'two words' # aligned", "token   =   *** # aligned"),
        ("password = a1", "password = ***"),
        ("Authorization: a1", "Authorization: ***"),
        ("GET / authorization: Bearer a1", "GET / authorization: ***"),
        ("http://user:a1@hub/", "http://***@hub/"),
        ("no secret here", "no secret here"),
    ],
)
def test_what_looks_like_a_secret_is_masked(said: str, cleaned: str) -> None:
    assert clean({"said": [said]}) == {"said": [cleaned]}


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        (DEFINES, "pcm.!default { type null }", "default"),
        (CARDS, "  card 7", "7"),
        (CARDS, 'slave.pcm "hw:1,0"', "1"),
        (PERMS, "\tipc_perm = 660", "660"),
    ],
)
def test_a_line_is_found_behind_any_number_of_blank_ones(
    pattern: re.Pattern[str], line: str, found: str
) -> None:
    """Minutes, if from each all that follow were gone through."""
    assert pattern.findall("#" + "\n" * 1_000_000 + line) == [found]


def test_a_stranger_cannot_keep_it_busy_with_masking() -> None:
    """Minutes, if each `token` were followed to the end."""
    words = "token" * 45_000
    assert clean(words) == words
