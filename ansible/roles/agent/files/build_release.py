#!/usr/bin/env python3
"""Build a release of the agent on this machine, for another one: archives that only need unpacking.

    build_release.py --source CHECKOUT --machine aarch64 --python 3.13
    {"archive": "~/.cache/pinna/releases/0.1.0-1a2b3c4d.tar.gz", "built": true, "name": "0.1.0-1a2b3c4d",
     "wheels": "5e6f7a8b", "wheels_archive": "~/.cache/pinna/releases/wheels-5e6f7a8b.tar.gz"}

One archive holds the wheels that requirements.lock pins by hash: a folder for /opt/pinna/wheels. The other
holds Pinna, in a virtual environment that refers to them: a folder for /opt/pinna/releases. What is unpacked
last (`complete`, `bin/pinna`) tells that all of it is there. Nothing is compiled. The names are hashes of all
that goes in: what is there already is not built again, and releases with the same locks share their wheels.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = "/opt/pinna"
MACHINES: Final = ("aarch64", "x86_64")
PYTHONS: Final = ("3.11", "3.12", "3.13")
GLIBC: Final = range(17, 37)
"""Minor versions of glibc 2 whose wheels run on Debian 12, which has 2.36 (PEP 600)."""

ONLY_TO_BUILD: Final = ("setuptools",)
"""Is in the lock for development installs."""

KEPT: Final = 8
"""Archives that stay in the cache; wheels have about 60 MB."""

LONG_AGO: Final = 315532800
"""1980: equal inputs give equal archives."""


class BuildError(Exception):
    """One line for the operator: what is wrong, and the cure."""


def main(argv: Sequence[str] | None = None) -> int:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pinna" / "releases"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="a checkout of Pinna")
    parser.add_argument("--machine", required=True, help=f"of the target: {' or '.join(MACHINES)}")
    parser.add_argument("--python", required=True, help=f"of the target: {', '.join(PYTHONS)}")
    parser.add_argument("--cache", type=Path, default=cache, help="where archives are kept (%(default)s)")
    given = parser.parse_args(argv)
    try:
        release = build(given.source, given.machine, given.python, given.cache)
    except BuildError as error:
        print(f"build_release: {error}", file=sys.stderr)  # noqa: T201  (a program's last word)
        return 1
    print(json.dumps(release, sort_keys=True))  # noqa: T201  (its answer)
    return 0


def build(source: Path, machine: str, python: str, cache: Path) -> dict[str, Any]:
    """Names and archives of a release and its wheels; whether one was `built`. One builds at a time."""
    if machine not in MACHINES:
        raise BuildError(
            f"there are no wheels for {machine}: install a 64-bit system ({', '.join(MACHINES)})"
        )
    if python not in PYTHONS:
        raise BuildError(f"Pinna does not run on Python {python}, but on {', '.join(PYTHONS)}")
    for needed in ("pyproject.toml", "requirements.lock", "agent/pinna/__init__.py"):
        if not (source / needed).is_file():
            raise BuildError(f"{source} is no checkout of Pinna: it has no {needed}")
    version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    requirements = locked(source / "requirements.lock", machine, python)
    wheels = fingerprint([machine, python, requirements])
    name = f"{version}-{fingerprint([wheels, *contents(source)])}"
    archive, wheels_archive = cache / f"{name}.tar.gz", cache / f"wheels-{wheels}.tar.gz"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="pinna-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [path for path in (archive, wheels_archive) if not path.exists()]
        if wheels_archive in missing:
            tree = Path(folder) / wheels
            install_wheels(tree, requirements, machine, python)
            pack(tree, wheels_archive, last=tree / "complete")
        if archive in missing:
            tree = Path(folder) / name
            lay_out(tree, source, version, python, wheels)
            pack(tree, archive, last=tree / "bin" / "pinna")
        for path in (archive, wheels_archive):
            path.touch()
        for old in sorted(cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
    return {
        "name": name,
        "archive": str(archive),
        "wheels": wheels,
        "wheels_archive": str(wheels_archive),
        "built": bool(missing),
    }


def modules(source: Path) -> Iterator[Path]:
    """The files of the package, in a stable order."""
    for path in sorted((source / "agent" / "pinna").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def contents(source: Path) -> Iterator[str]:
    for path in modules(source):
        yield path.relative_to(source).as_posix()
        yield hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(parts: Iterable[str]) -> str:
    """Eight hexadecimal digits over what goes in, and over this program."""
    return hashlib.sha256("\0".join([Path(__file__).read_text(), *parts]).encode()).hexdigest()[:8]


def locked(lock: Path, machine: str, python: str) -> str:
    """The lines of `lock` for the target, without their markers: pip would judge them by its own Python."""
    from packaging.markers import Marker  # noqa: PLC0415  (comes with Ansible; --help works without)

    target = {
        "implementation_name": "cpython",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    lines, wanted = [], False
    for line in lock.read_text().splitlines():
        if requirement := re.fullmatch(r"(([^\s#;=]+)==[^\s;]+)(?:\s*;\s*(.+?))?\s*\\", line):
            pinned, name, marker = requirement.groups()
            wanted = name not in ONLY_TO_BUILD and (marker is None or Marker(marker).evaluate(target))
            if wanted:
                lines.append(f"{pinned} \\")
        elif wanted and line.startswith("    --hash="):
            lines.append(line)
    return "\n".join(lines) + "\n"


def install_wheels(tree: Path, requirements: str, machine: str, python: str) -> None:
    """What `requirements` pin, for the target, in `tree`, as pip would install it there."""
    tree.mkdir()
    with tempfile.NamedTemporaryFile("w", prefix="pinna-", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC)]
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"),
            # That is pip's own Python; the lock's markers and the wheels' tags are matched to the target's.
            "--ignore-requires-python",
            *("--implementation", "cp", "--python-version", python),
            *(word for name in (*platforms, f"manylinux2014_{machine}") for word in ("--platform", name)),
            *("--target", str(tree), "-r", file.name),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise BuildError(f"pip could not install what requirements.lock names: {'; '.join(errors[-3:])}")
    shutil.rmtree(tree / "bin", ignore_errors=True)  # scripts for this machine's Python
    for record in tree.glob("*.dist-info/RECORD"):  # names the scripts, which differ
        record.unlink()
    (tree / "complete").touch()


def lay_out(tree: Path, source: Path, version: str, python: str, wheels: str) -> None:
    """A virtual environment, as `python -m venv` would make it, with Pinna's modules."""
    packages = tree / "lib" / f"python{python}" / "site-packages"
    for path in modules(source):
        copy = packages / path.relative_to(source / "agent")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    info = packages / f"pinna-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pinna\nVersion: {version}\n")
    (packages / "wheels.pth").write_text(f"{ROOT}/wheels/{wheels}\n")
    (tree / "wheels").symlink_to(f"../../wheels/{wheels}")
    (tree / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    (tree / "bin").mkdir()
    (tree / "bin" / "python3").symlink_to(f"/usr/bin/python{python}")
    (tree / "bin" / "pinna").write_text(
        f"#!{ROOT}/releases/{tree.name}/bin/python3\nfrom pinna.cli import main\n\nraise SystemExit(main())\n"
    )


def pack(tree: Path, archive: Path, last: Path) -> None:
    """`tree` as a gzipped tar, sorted but for `last`, of root, of 1980: equal trees give equal bytes."""
    paths = sorted((tree, *tree.rglob("*")), key=lambda path: (path == last, path.as_posix()))
    part = archive.with_suffix(".part")
    with (
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in paths:
            entry = tar.gettarinfo(path, path.relative_to(tree.parent).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = LONG_AGO
            entry.mode = 0o755 if path.is_dir() or path.parent == tree / "bin" else 0o644
            content = path.read_bytes() if entry.isreg() else b""
            tar.addfile(entry, io.BytesIO(content) if content else None)
    part.replace(archive)


if __name__ == "__main__":
    sys.exit(main())
