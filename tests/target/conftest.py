"""Proves devices that the playbook has made appliances of: by ssh, by inventory group, or an image.

    pytest tests/target --hosts=ansible://pinna --ansible-inventory=inventory.ini
    pytest tests/target --hosts=ssh://pi@kitchen.local,ssh://pi@hall.local
    pytest tests/target --hosts=/mnt/image --connection=chroot
    pytest tests/target ... --junitxml=proof.xml --html=proof.html --self-contained-html

Each host is looked at as `pinna doctor` does, and asked for what that does not see, all hosts at once; the
tests judge what was seen. A host that cannot be examined is one failure; its other tests are skipped. Tests
marked `live` need a running system and are skipped for the root file system of an image.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host
from tests.target import report
from tests.target.contact import Contact, Unreachable, name
from tests.target.examine import EXAMINATION, FOUND, STAGES, Examination, HubView, Seen
from tests.target.hub import Hub

from pinna.doctor.finding import Snapshot

HERE = Path(__file__).parent
USAGE = (
    "tests/target prove a device and need to know which: `pytest tests/target --hosts=ansible://pinna "
    "--ansible-inventory=inventory.ini`, or `pytest tests/target --hosts=ssh://pi@kitchen.local`"
)
ORDER = (
    "test_reach",
    "test_disruptions",
    "test_system",
    "test_image",
    "test_doctor",
    "test_card",
    "test_sound",
    "test_container",
    "test_agent",
    "test_recorder",
)
PARTS = {"snapshot", "sound", "container", "hub", "image"}
PATIENCE_SECONDS = 900
DISRUPTIVE_PATIENCE_SECONDS = 2400


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pinna target")
    group.addoption(
        "--hub-url", metavar="URL", help="the hub, as this machine reaches it: it must count each device"
    )
    group.addoption(
        "--hub-token-file", type=Path, metavar="FILE", help="holds the token that the hub asks for"
    )
    group.addoption(
        "--speech",
        action="store_true",
        help="somebody speaks near every microphone: the hub must hear speech",
    )
    group.addoption(
        "--disruptive",
        action="store_true",
        help="take the microphone away and give it back, and reboot; after each, prove everything again",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "live: needs a running system, not the root file system of an image")
    config.addinivalue_line("markers", "stage(name): judges a host after this disruption")
    if not _asked_for(config):
        return
    option = config.option
    if not option.hosts:
        raise pytest.UsageError(USAGE)
    option.connection = option.connection or "ssh"
    if option.hub_token_file is not None and not option.hub_token_file.is_file():
        raise pytest.UsageError(f"--hub-token-file: there is no file {option.hub_token_file}")
    # testinfra starts ansible-inventory by its name; it is where this Python is.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        found = testinfra.get_hosts(option.hosts.split(","), **_given(config))
    except (RuntimeError, ValueError, AssertionError) as error:  # of an address, or of ansible-inventory
        raise pytest.UsageError(f"--hosts={option.hosts}: {_said(error)}") from error
    if not found:
        raise pytest.UsageError(f"--hosts={option.hosts}: the inventory has no such host or group")
    if option.disruptive and any(host.backend.get_connection_type() == "local" for host in found):
        raise pytest.UsageError("--disruptive would reboot this machine: run it from another")
    if config.pluginmanager.hasplugin("html"):
        config.pluginmanager.register(report.Page(config), "pinna-report")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only who asks for these tests gets them: a run of all tests has no device, and few have an image."""
    of_image = collection_path.name == "test_image.py" and config.option.connection != "chroot"
    return True if of_image or not _asked_for(config) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stage" in metafunc.fixturenames and metafunc.config.option.disruptive:
        metafunc.parametrize("stage", STAGES, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Host by host; of each, as it was found first, then after each disruption."""
    here = [item for item in items if HERE in item.path.parents]
    disruptive = config.option.disruptive
    for item in here:
        item.user_properties += report.properties(item)
        item.add_marker(pytest.mark.timeout(DISRUPTIVE_PATIENCE_SECONDS if disruptive else PATIENCE_SECONDS))
    here.sort(
        key=lambda item: (
            report.host_of(item),
            STAGES.index(report.stage_of(item)),
            ORDER.index(item.path.stem),
        )
    )
    items[:] = here + [item for item in items if HERE not in item.path.parents]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Examine what the selected tests ask for, no more."""
    config = session.config
    here = [item for item in session.items if HERE in item.path.parents]
    if config.option.collectonly or not here:
        return
    folder = Path(tempfile.mkdtemp(prefix="pinna-"))
    hosts = {name(host): host for item in here if (host := report.host(item)) is not None}
    contacts = [Contact(host, folder / str(number)) for number, host in enumerate(hosts.values())]
    parts = {part for item in here for part in PARTS & {*item.fixturenames}}
    stages = [stage for stage in STAGES if stage == FOUND or config.option.disruptive]
    hub = Hub(config.option.hub_url, config.option.hub_token_file) if config.option.hub_url else None
    examination = config.stash[EXAMINATION] = Examination(contacts, stages, parts, hub)

    def end() -> None:
        examination.end()
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(end)
    examination.begin()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", FOUND)


@pytest.fixture(scope="module")
def seen(host: Host, stage: str, pytestconfig: pytest.Config) -> Seen:
    """What was seen of this host at this stage."""
    try:
        return pytestconfig.stash[EXAMINATION].seen(name(host), stage)
    except Unreachable:
        pytest.skip(report.UNREACHABLE)


@pytest.fixture(scope="module")
def facts(seen: Seen) -> dict[str, Any]:
    """remote/facts.py's answer: what the snapshot has not, also of an image."""
    return seen.facts


@pytest.fixture(scope="module")
def snapshot(seen: Seen) -> Snapshot:
    """What the doctor sees of a running system; empty for an image."""
    return Snapshot(seen.snapshot)


@pytest.fixture(scope="module")
def sound(seen: Seen) -> dict[str, Any]:
    """remote/listen.py's answer."""
    return seen.sound


@pytest.fixture(scope="module")
def container(seen: Seen) -> dict[str, Any]:
    """remote/container.py's answer; empty where no container can be started."""
    return seen.container


@pytest.fixture(scope="module")
def image(seen: Seen) -> dict[str, Any]:
    """remote/image.py's answer; of a running system, there is none."""
    if not seen.image:
        pytest.skip("it runs: what it was flashed with is no longer to be seen")
    return seen.image


@pytest.fixture(scope="module")
def hub(seen: Seen, pytestconfig: pytest.Config) -> HubView:
    if pytestconfig.option.hub_url is None:
        pytest.skip("--hub-url is not given")
    return seen.hub


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("live") and not request.getfixturevalue("facts")["running"]:
        pytest.skip("needs a running system")


def _asked_for(config: pytest.Config) -> bool:
    """Whether a path on the command line leads here or into here."""
    paths = (config.invocation_params.dir / argument.split("::")[0] for argument in config.args)
    return any(path == HERE or HERE in path.parents for path in paths)


def _given(config: pytest.Config) -> dict[str, Any]:
    names = ("connection", "ssh_config", "ssh_identity_file", "sudo", "sudo_user", "ansible_inventory")
    return {each: getattr(config.option, each) for each in (*names, "force_ansible")}


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(getattr(error, "stderr", "") or error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
