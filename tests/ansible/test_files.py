"""Module pinna_files on this machine: what it writes, what it refuses, and what it tells."""

from __future__ import annotations

import base64
import stat
import subprocess
from pathlib import Path
from typing import Any

from tests.support.local_play import local_play

REFUSES = "grep -q listen %s"


def wanted(dest: Path, content: bytes, **more: str) -> dict[str, str]:
    return {"dest": str(dest), "content": base64.b64encode(content).decode(), **more}


def write(folder: Path, files: list[dict[str, str]], *options: str) -> subprocess.CompletedProcess[str]:
    task: dict[str, Any] = {"name": "Write", "pinna_files": {"files": files}}
    return local_play(folder, {"name": "Write files", "tasks": [task]}, *options, variables={})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_their_folders_are_made_once(tmp_path: Path) -> None:
    text, secret = tmp_path / "etc/pinna/a.conf", tmp_path / "etc/secret"
    files = [wanted(text, b"a\nb\n"), wanted(secret, b"\xff\x00", mode="0600")]
    first = write(tmp_path, files)
    assert "changed=1" in first.stdout, first.stdout + first.stderr
    assert (text.read_bytes(), secret.read_bytes()) == (b"a\nb\n", b"\xff\x00")
    assert (mode(text), mode(text.parent), mode(secret)) == (0o644, 0o755, 0o600)
    assert "changed=0" in write(tmp_path, files).stdout
    text.chmod(0o600)
    assert "changed=1" in write(tmp_path, files).stdout
    assert mode(text) == 0o644


def test_a_dry_run_shows_what_would_change_and_writes_nothing(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "not/yet"
    there.write_text("old\n")
    done = write(tmp_path, [wanted(there, b"new\n"), wanted(missing, b"x\n")], "--check", "--diff")
    assert "changed=1" in done.stdout, done.stdout + done.stderr
    assert "-old\n+new\n" in done.stdout
    assert f"+++ after: {missing}" in done.stdout
    assert there.read_text() == "old\n"
    assert not missing.parent.exists()


def test_one_invalid_file_keeps_all_of_them_from_changing(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    bad.write_text("before\n")
    done = write(
        tmp_path, [wanted(good, b"listen\n", validate=REFUSES), wanted(bad, b"x\n", validate=REFUSES)]
    )
    assert done.returncode == 2, done.stdout
    assert f"{bad} would be invalid, and stays what it was" in done.stdout + done.stderr
    assert bad.read_text() == "before\n"
    assert not good.exists()


def test_a_file_that_is_to_have_nothing_in_it_goes(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.write_text("old\n")
    files = [wanted(there, b""), wanted(missing, b"")]
    dry = write(tmp_path, files, "--check", "--diff")
    assert "changed=1" in dry.stdout, dry.stdout + dry.stderr
    assert "-old\n" in dry.stdout
    assert there.read_text() == "old\n"
    assert "changed=1" in write(tmp_path, files).stdout
    assert not there.exists()
    assert "changed=0" in write(tmp_path, files).stdout
    assert not missing.exists()
