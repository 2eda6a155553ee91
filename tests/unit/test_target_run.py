"""How a run of tests/target ends when there is nothing to examine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_without_hosts_it_says_how_to_call_it() -> None:
    done = run("tests/target")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--hosts=ansible://pinna" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_group_is_a_usage_error(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.ini"
    inventory.write_text("[pinna]\nkitchen ansible_host=127.0.0.1\n")
    done = run("tests/target", "--hosts=ansible://garden", f"--ansible-inventory={inventory}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no such host or group" in done.stderr


def test_an_unreachable_host_is_one_failure_with_cause_and_cure(tmp_path: Path) -> None:
    junit, page = tmp_path / "junit.xml", tmp_path / "page.html"
    done = run(
        "tests/target",
        "--hosts=ssh://root@127.0.0.1:1",
        f"--junitxml={junit}",
        f"--html={page}",
        "--self-contained-html",
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert int(suite.get("skipped", 0)) == int(suite.get("tests", 0)) - 1
    assert "Connection refused. Is it up" in done.stdout
    assert "root@127.0.0.1:1 cannot be examined" in page.read_text()


def test_a_folder_that_is_no_root_file_system_is_one_failure_with_a_cure(tmp_path: Path) -> None:
    done = run("tests/target", f"--hosts={tmp_path}/gone", "--connection=chroot")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "Is the image's second partition mounted there?" in done.stdout
    assert "1 failed" in done.stdout


def test_a_password_is_not_put_on_a_command_line(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.ini"
    inventory.write_text(
        "[pinna]\nhall ansible_host=127.0.0.1 ansible_port=1 ansible_user=pi ansible_ssh_pass=a-word\n"
    )
    done = run("tests/target", "--hosts=ansible://pinna", f"--ansible-inventory={inventory}")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "ssh-copy-id" in done.stdout
    assert "a-word" not in done.stdout + done.stderr
