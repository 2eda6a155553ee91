"""The image of this checkout, from the cache or built now: `make test-image`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from image.__main__ import assemble, source_date_epoch
from image.appliance import appliance
from image.boards import BOARDS
from image.debian import base
from image.filesystems import Image
from image.tools import tools
from image.wishes import Wishes
from tests.fleet import pis
from tests.fleet.hub import FleetHub


@pytest.fixture(scope="session")
def root(pytestconfig: pytest.Config) -> Path:
    """The canonical tar of the appliance's root file system. Its progress is shown: a person may wait."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return appliance(
            base(docker=True, fresh=False), docker=True, settings=None, epoch=source_date_epoch()
        )


@pytest.fixture(scope="session")
def image(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The very image that would be flashed."""
    made = tmp_path_factory.mktemp("image") / "pinna.img"
    return assemble(made, root, list(BOARDS.values()), Wishes(), tools(), source_date_epoch())


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who speaks, for the microphones."""
    return pis.voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHub]:
    place = FleetHub.somewhere(tmp_path_factory.mktemp("hub"))
    with place.running():
        yield place
