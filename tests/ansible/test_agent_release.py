"""The program that builds releases, on a small checkout with small wheels, and pip without an index."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "ansible/roles/agent/files/build_release.py"
PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "pinna"
version = "7.1"
readme = "README.md"

[tool.setuptools.packages.find]
where = ["agent"]
"""
NATIVE = ("native", "1.0", "cp313-cp313-manylinux_2_28_aarch64")
OLD = ("choosy", "1.0", "py3-none-any")
NEW = ("choosy", "2.0", "py3-none-any")


def wheel(folder: Path, name: str, version: str, tag: str) -> str:
    """A wheel with one module; the line of a lock that names it."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Bench:
    """A checkout, an index of wheels and a cache."""

    def __init__(self, folder: Path) -> None:
        self.source, self.cache, self.wheels = folder / "checkout", folder / "cache", folder / "wheels"
        self.wheels.mkdir()
        self.package = self.source / "agent" / "pinna"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        (self.package / "cli.py").write_text("def main() -> int:\n    return 0\n")
        (self.source / "pyproject.toml").write_text(PROJECT)
        (self.source / "LICENSE").write_text("as you like\n")
        self.lock = self.source / "requirements.lock"
        self.lock.write_text(
            f"native==1.0 \\\n    {wheel(self.wheels, *NATIVE)}\n    # via pinna\n"
            f"choosy==1.0 ; python_full_version < '3.12' \\\n    {wheel(self.wheels, *OLD)}\n"
            f"choosy==2.0 ; python_full_version >= '3.12' \\\n    {wheel(self.wheels, *NEW)}\n"
        )

    def start(self, *, machine: str = "aarch64", python: str = "3.13") -> subprocess.Popen[str]:
        options = {"source": self.source, "machine": machine, "python": python, "cache": self.cache}
        return subprocess.Popen(
            [sys.executable, PROGRAM, *(f"--{name}={value}" for name, value in options.items())],
            env={
                **os.environ,
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.wheels),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def build(self, **target: str) -> dict[str, Any]:
        out, err = self.start(**target).communicate(timeout=60)
        assert out, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def refusal(self, **target: str) -> str:
        running = self.start(**target)
        out, err = running.communicate(timeout=60)
        assert (running.returncode, out) == (1, "")
        return err


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def entries(release: dict[str, Any]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Each path within the release's folder, as archived."""
    with tarfile.open(release["archive"]) as archive:
        for entry in archive:
            top, _, path = entry.name.partition("/")
            assert top == release["name"]
            yield path, entry


def read(release: dict[str, Any], path: str) -> str:
    with tarfile.open(release["archive"]) as archive:
        opened = archive.extractfile(f"{release['name']}/{path}")
        assert opened
        return opened.read().decode()


def test_a_release_is_an_environment_for_the_target(bench: Bench) -> None:
    release = bench.build()
    inside = dict(entries(release))
    assert release["name"].startswith("7.1-")
    assert inside["bin/python3"].linkname == "/usr/bin/python3.13"
    packages = "lib/python3.13/site-packages"
    assert {f"{packages}/{file}" for file in ("native.py", "choosy.py", "pinna/cli.py")} <= set(inside)
    assert read(release, "bin/pinna").startswith(f"#!/opt/pinna/releases/{release['name']}/bin/python3\n")
    assert "home = /usr/bin\n" in read(release, "pyvenv.cfg")
    assert {(entry.uid, entry.gid, entry.mtime) for entry in inside.values()} == {(0, 0, 315532800)}
    assert {path for path, entry in inside.items() if entry.isreg() and entry.mode == 0o755} == {"bin/pinna"}


def test_the_program_is_the_last_to_be_unpacked(bench: Bench) -> None:
    """So that a release that has it is whole: role agent looks for nothing else."""
    assert [path for path, _ in entries(bench.build())][-1] == "bin/pinna"


def test_what_only_building_needs_stays_here(bench: Bench) -> None:
    paths = [path for path, _ in entries(bench.build())]
    assert not [path for path in paths if "setuptools" in path or path.endswith((".pyc", "RECORD"))]


def test_a_release_is_built_once(bench: Bench) -> None:
    first = bench.build()
    (bench.source / "README.md").write_text("for readers\n")
    (bench.package / "__pycache__").mkdir()
    (bench.package / "__pycache__" / "cli.pyc").touch()
    assert (first["built"], bench.build()) == (True, {**first, "built": False})


def test_equal_inputs_give_equal_bytes(bench: Bench) -> None:
    archive = Path(bench.build()["archive"])
    before = archive.read_bytes()
    archive.unlink()
    assert bench.build()["built"]
    assert archive.read_bytes() == before


def test_two_at_a_time_build_it_once(bench: Bench) -> None:
    answers = [json.loads(running.communicate(timeout=60)[0]) for running in (bench.start(), bench.start())]
    assert sorted(answer["built"] for answer in answers) == [False, True]


def test_another_source_lock_or_target_is_another_release(bench: Bench) -> None:
    (bench.wheels / "native-1.0-cp311-cp311-manylinux2014_x86_64.whl").write_bytes(
        (bench.wheels / "native-1.0-cp313-cp313-manylinux_2_28_aarch64.whl").read_bytes()
    )
    names = [bench.build()["name"]]
    names.append(bench.build(machine="x86_64", python="3.11")["name"])
    (bench.package / "cli.py").write_text("def main() -> int:\n    return 1\n")
    names.append(bench.build()["name"])
    bench.lock.write_text(bench.lock.read_text().replace("# via pinna", "# via agent"))
    names.append(bench.build()["name"])
    assert len(set(names)) == 4


@pytest.mark.parametrize(("python", "chosen"), [("3.11", "1.0"), ("3.13", "2.0")])
def test_markers_are_judged_for_the_target(bench: Bench, python: str, chosen: str) -> None:
    bench.lock.write_text("".join(bench.lock.read_text().partition("choosy")[1:]))
    release = bench.build(python=python)
    assert read(release, f"lib/python{python}/site-packages/choosy.py") == f"version = {chosen!r}\n"


def test_old_archives_leave_the_cache(bench: Bench) -> None:
    bench.cache.mkdir()
    for day in range(10):
        path = bench.cache / f"7.0-{day}.tar.gz"
        path.touch()
        os.utime(path, (day, day))
    release = bench.build()
    kept = {path.name for path in bench.cache.glob("*.tar.gz")}
    assert kept == {f"7.0-{day}.tar.gz" for day in range(3, 10)} | {Path(release["archive"]).name}


def test_a_wheel_that_is_not_the_locked_one_is_refused(bench: Bench) -> None:
    wheel(bench.wheels, *NATIVE[:2], "cp313-cp313-manylinux_2_28_aarch64")
    with zipfile.ZipFile(bench.wheels / "native-1.0-cp313-cp313-manylinux_2_28_aarch64.whl", "a") as archive:
        archive.writestr("intruder.py", "")
    said = bench.refusal()
    assert "could not install what requirements.lock names" in said
    assert not list(bench.cache.glob("*.tar.gz"))
    assert not list(bench.cache.glob("building-*"))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"machine": "arm"}, ["no wheels for arm", "install a 64-bit system"]),
        ({"python": "3.9"}, ["does not run on Python 3.9", "3.11, 3.12, 3.13"]),
    ],
)
def test_a_target_without_wheels_is_refused(bench: Bench, target: dict[str, str], said: list[str]) -> None:
    told = bench.refusal(**target)
    assert all(words in told for words in said)


def test_what_is_no_checkout_is_refused(bench: Bench) -> None:
    bench.lock.unlink()
    assert "is no checkout of Pinna: it has no requirements.lock" in bench.refusal()


def test_the_program_explains_itself() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "--help"], capture_output=True, text=True, check=True)
    assert "build_release.py --source CHECKOUT --machine aarch64 --python 3.13" in done.stdout
