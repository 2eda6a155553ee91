"""The one test that fails for a host that cannot be examined."""

from __future__ import annotations

import pytest
from testinfra.host import Host
from tests.target.contact import Unreachable, name
from tests.target.examine import EXAMINATION, FOUND
from tests.target.proof import must


def test_the_device_answers(host: Host, pytestconfig: pytest.Config) -> None:
    trouble = ""
    try:
        pytestconfig.stash[EXAMINATION].seen(name(host), FOUND)
    except Unreachable as error:
        trouble = str(error)
    must(not trouble, trouble)
