"""The root file system that is flashed, by tests/target's image part and testinfra's chroot connection.

A processor of another kind cannot run what lies there, so what is found as `chroot` is proot, with QEMU.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.fleet.playbook import ROOT
from tests.virtual_pi.processes import need

pytestmark = pytest.mark.timeout(7200)  # the first of these tests may have to build it

CHROOT = """\
#!/bin/sh
root=$1
shift
exec {proot} --root-id {emulator} --rootfs="$root" --cwd=/ "$@"
"""
RUNS_HERE = ("aarch64", "arm64")
PATIENCE_SECONDS = 600


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """It, unpacked: two gigabytes, gone afterwards."""
    at = tmp_path_factory.mktemp("root")
    subprocess.run(["tar", "--extract", "--preserve-permissions", f"--file={root}"], cwd=at, check=True)
    yield at
    subprocess.run(["chmod", "-R", "u+rwX", str(at)], check=True)
    shutil.rmtree(at)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """In which `chroot` needs neither root nor that processor."""
    emulator = need("qemu-aarch64-static", "qemu-user-static") if platform.machine() not in RUNS_HERE else ""
    script = tmp_path_factory.mktemp("bin") / "chroot"
    script.write_text(
        CHROOT.format(proot=need("proot", "proot"), emulator=f"--qemu={emulator}" if emulator else "")
    )
    script.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return {**inherited, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}


def examined(folder: Path, environment: dict[str, str], report: Path, *arguments: str) -> dict[str, str]:
    """What became of each test, such as `test_agent.test_it`: "passed", "skipped", or the failure's words."""
    line = [sys.executable, "-m", "pytest", "tests/target", "-q", f"--junitxml={report}"]
    line += [f"--hosts={folder}", "--connection=chroot", *arguments]
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        module = case.attrib["classname"].rpartition(".")[2]
        name = f"{module}.{case.attrib['name'].replace(f'[chroot://{folder}]', '')}"
        failure, skipped = case.find("failure"), case.find("skipped")
        outcomes[name] = (
            failure.attrib["message"]
            if failure is not None
            else "skipped"
            if skipped is not None
            else "passed"
        )
    return outcomes


def test_it_is_as_tests_target_want_it(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    outcomes = examined(folder, environment, tmp_path / "junit.xml")
    assert {name: said for name, said in outcomes.items() if said not in ("passed", "skipped")} == {}
    passed = {name.partition(".")[0] for name, said in outcomes.items() if said == "passed"}
    assert {"test_image", "test_system", "test_agent", "test_card"} <= passed
    skipped = {name for name, said in outcomes.items() if said == "skipped" and name.startswith("test_image")}
    assert not skipped


def test_what_must_not_be_there_is_named(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Last, as it spoils it."""
    planted = {
        "etc/ssh/ssh_host_ed25519_key": "shared",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/pinna/hub_token": "secret",
        "var/lib/cloud/seed": "of the build",
        "etc/shadow": "root:$y$j9T$x:20000::::::\n",
    }
    (folder / "var/lib/pinna-image").mkdir()  # a folder, and a link: they count as files do
    (folder / "var/lib/dbus").mkdir(parents=True, exist_ok=True)
    (folder / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    for name, text in planted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(text)
    outcomes = examined(folder, environment, tmp_path / "junit.xml", "-k", "test_image")
    failed = {name: said for name, said in outcomes.items() if said not in ("passed", "skipped")}
    assert set(failed) == {
        "test_image.test_no_two_devices_share_an_identity",
        "test_image.test_it_brings_no_token",
        "test_image.test_nobody_has_a_password",
        "test_image.test_nothing_is_left_of_the_build",
    }
    assert "ssh_host_ed25519_key" in failed["test_image.test_no_two_devices_share_an_identity"]
    assert "var/lib/dbus/machine-id" in failed["test_image.test_no_two_devices_share_an_identity"]
    assert "var/lib/pinna-image" in failed["test_image.test_nothing_is_left_of_the_build"]
    assert "root" in failed["test_image.test_nobody_has_a_password"]
    assert "var/lib/cloud/seed" in failed["test_image.test_nothing_is_left_of_the_build"]
    assert not [said for said in failed.values() if "secret" in said or "$y$" in said]
