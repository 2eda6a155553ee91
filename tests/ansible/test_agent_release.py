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
import yaml

ROLE = Path(__file__).parents[2] / "ansible/roles/agent"
PROGRAM = ROLE / "files/build_release.py"
PROJECT = '[project]\nname = "pinna"\nversion = "7.1"\n'
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
        self.lock = self.source / "requirements.lock"
        self.lock.write_text(
            f"native==1.0 \\\n    {wheel(self.wheels, *NATIVE)}\n    # via pinna\n"
            f"choosy==1.0 ; python_full_version < '3.12' \\\n    {wheel(self.wheels, *OLD)}\n"
            f"choosy==2.0 ; python_full_version >= '3.12' \\\n    {wheel(self.wheels, *NEW)}\n"
            f"setuptools==80.0 \\\n    --hash=sha256:{'0' * 64}\n"
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


def entries(release: dict[str, Any], key: str = "archive") -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Each path within the folder that an archive holds."""
    with tarfile.open(release[key]) as archive:
        for entry in archive:
            top, _, path = entry.name.partition("/")
            assert top == release["wheels" if key == "wheels_archive" else "name"]
            yield path, entry


@pytest.fixture
def unpacked(bench: Bench, tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """A release, and the root that it and its wheels have been unpacked into."""
    release, root = bench.build(), tmp_path / "opt"
    for key, folder in (("archive", "releases"), ("wheels_archive", "wheels")):
        with tarfile.open(release[key]) as archive:
            archive.extractall(root / folder, filter="tar")
    return release, root


def test_a_release_is_an_environment_for_the_target(unpacked: tuple[dict[str, Any], Path]) -> None:
    release, root = unpacked
    tree = root / "releases" / release["name"]
    packages = tree / "lib/python3.13/site-packages"
    assert release["name"].startswith("7.1-")
    assert (tree / "bin/python3").readlink() == Path("/usr/bin/python3.13")
    assert (tree / "bin/pinna").read_text().startswith(f"#!/opt/pinna/releases/{tree.name}/bin/python3\n")
    assert "home = /usr/bin\n" in (tree / "pyvenv.cfg").read_text()
    assert (packages / "pinna/cli.py").exists()
    assert (packages / "wheels.pth").read_text() == f"/opt/pinna/wheels/{release['wheels']}\n"
    assert (tree / "wheels").resolve() == root / "wheels" / release["wheels"]
    assert {path.name for path in (tree / "wheels").glob("*.py")} == {"native.py", "choosy.py"}


def test_archives_belong_to_root_and_say_when_they_are_whole(bench: Bench) -> None:
    """Role agent looks for nothing but what is unpacked last."""
    release = bench.build()
    for key, last in (("archive", "bin/pinna"), ("wheels_archive", "complete")):
        found = list(entries(release, key))
        assert found[-1][0] == last
        assert {(entry.uid, entry.gid, entry.mtime) for _, entry in found} == {(0, 0, 315532800)}
        programs = {path for path, entry in found if entry.isreg() and entry.mode == 0o755}
        assert programs == ({"bin/pinna"} if key == "archive" else set())


def test_nothing_of_this_machine_goes_along(bench: Bench) -> None:
    release = bench.build()
    paths = [path for key in ("archive", "wheels_archive") for path, _ in entries(release, key)]
    assert not [path for path in paths if path.endswith((".pyc", "RECORD", "direct_url.json"))]


def test_a_release_is_built_once(bench: Bench) -> None:
    first = bench.build()
    (bench.source / "README.md").write_text("for readers\n")
    (bench.package / "__pycache__").mkdir()
    (bench.package / "__pycache__" / "cli.pyc").touch()
    assert (first["built"], bench.build()) == (True, {**first, "built": False})


def test_equal_inputs_give_equal_bytes(bench: Bench) -> None:
    release = bench.build()
    archives = [Path(release[key]) for key in ("archive", "wheels_archive")]
    before = [archive.read_bytes() for archive in archives]
    for archive in archives:
        archive.unlink()
    assert bench.build()["built"]
    assert [archive.read_bytes() for archive in archives] == before


def test_two_at_a_time_build_it_once(bench: Bench) -> None:
    answers = [json.loads(running.communicate(timeout=60)[0]) for running in (bench.start(), bench.start())]
    assert sorted(answer["built"] for answer in answers) == [False, True]


def test_releases_with_the_same_locks_share_their_wheels(bench: Bench) -> None:
    first = bench.build()
    (bench.package / "cli.py").write_text("def main() -> int:\n    return 1\n")
    second = bench.build()
    bench.lock.write_text(bench.lock.read_text().partition("choosy")[0])
    third = bench.build()
    assert len({release["name"] for release in (first, second, third)}) == 3
    assert first["wheels"] == second["wheels"] != third["wheels"]


def test_another_target_is_another_release(bench: Bench) -> None:
    line = wheel(bench.wheels, "native", "1.0", "cp311-cp311-manylinux2014_x86_64")
    bench.lock.write_text(bench.lock.read_text().replace("    --hash", f"    {line} \\\n    --hash", 1))
    first, second = bench.build(), bench.build(machine="x86_64", python="3.11")
    assert first["name"] != second["name"]
    assert first["wheels"] != second["wheels"]


@pytest.mark.parametrize(("python", "chosen"), [("3.11", "1.0"), ("3.13", "2.0")])
def test_markers_are_judged_for_the_target(bench: Bench, python: str, chosen: str) -> None:
    bench.lock.write_text("".join(bench.lock.read_text().partition("choosy")[1:]))
    names = [path for path, _ in entries(bench.build(python=python), "wheels_archive")]
    assert f"choosy-{chosen}.dist-info/METADATA" in names


def test_old_archives_leave_the_cache(bench: Bench) -> None:
    bench.cache.mkdir()
    for day in range(10):
        path = bench.cache / f"7.0-{day}.tar.gz"
        path.touch()
        os.utime(path, (day, day))
    release = bench.build()
    new = {Path(release[key]).name for key in ("archive", "wheels_archive")}
    kept = {path.name for path in bench.cache.glob("*.tar.gz")}
    assert kept == {f"7.0-{day}.tar.gz" for day in range(4, 10)} | new


def test_a_wheel_that_is_not_the_locked_one_is_refused(bench: Bench) -> None:
    wheel(bench.wheels, *NATIVE[:2], "cp313-cp313-manylinux_2_28_aarch64")
    with zipfile.ZipFile(bench.wheels / "native-1.0-cp313-cp313-manylinux_2_28_aarch64.whl", "a") as archive:
        archive.writestr("intruder.py", "")
    said = bench.refusal()
    assert "could not install what requirements.lock names" in said
    assert not list(bench.cache.glob("*.tar.gz"))
    assert not list(bench.cache.glob("*.part"))


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


@pytest.mark.parametrize(
    ("number", "named", "left"),
    [
        (3, ["e", "d"], "cde"),
        (3, ["e", "a"], "ade"),
        (2, ["a", "b"], "ab"),
        (9, ["e", ""], "abcde"),
    ],
)
def test_the_oldest_releases_make_room(tmp_path: Path, number: int, named: list[str], left: str) -> None:
    """And the wheels of a and b, which are the same, stay as long as one of the two."""
    variables = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    before = 0
    for name in "abcde":
        release, wheels = tmp_path / "releases" / name, "ab" if name in "ab" else name
        (tmp_path / "wheels" / wheels).mkdir(parents=True, exist_ok=True)
        release.mkdir(parents=True)
        (release / "wheels").symlink_to(f"../../wheels/{wheels}")
        while release.stat().st_ctime_ns <= before:  # a file system's clock ticks in milliseconds
            release.touch()
        before = release.stat().st_ctime_ns
    subprocess.run(
        [sys.executable, "-c", variables["_agent_prune"], tmp_path, str(number), *named], check=True
    )
    assert {path.name for path in (tmp_path / "releases").iterdir()} == set(left)
    assert {path.name for path in (tmp_path / "wheels").iterdir()} == {
        "ab" if name in "ab" else name for name in left
    }
