"""What the collector concludes by itself; that it looks for real is shown in tests/integration."""

from __future__ import annotations

import pytest

from pinna.doctor.collect import kind_of_container

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
