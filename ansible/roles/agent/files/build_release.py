#!/usr/bin/env python3
"""Build a release of the agent on this machine, for another one: an archive that only needs unpacking.

    build_release.py --source CHECKOUT --machine aarch64 --python 3.13
    {"archive": "~/.cache/pinna/releases/0.1.0-1a2b3c4d.tar.gz", "built": true, "name": "0.1.0-1a2b3c4d"}

The archive holds one folder, NAME, a virtual environment for /opt/pinna/releases/NAME: the wheels that
requirements.lock pins by hash, Pinna itself, and bin/pinna, which is the last to be unpacked. Nothing is
compiled. NAME is the version and a hash of all that goes in, so what is there already is not built again.
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
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

RELEASES: Final = "/opt/pinna/releases"
MACHINES: Final = ("aarch64", "x86_64")
PYTHONS: Final = ("3.11", "3.12", "3.13")
GLIBC: Final = range(17, 37)
"""Minor versions of glibc 2 whose wheels run on Debian 12, which has 2.36 (PEP 600)."""

KEPT: Final = 8
"""Archives that stay in the cache; one has about 60 MB."""

LONG_AGO: Final = 315532800
"""1980, where zip archives begin: equal inputs give equal archives."""


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
    """The release's `name`, its `archive`, and whether it had to be `built`. One builds at a time."""
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
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        name = f"{version}-{fingerprint(source, machine, python)}"
        archive = cache / f"{name}.tar.gz"
        found = archive.exists()
        if found:
            archive.touch()
        else:
            with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as folder:
                part = assemble(source, name, machine, python, Path(folder))
                part.replace(archive)
        for old in sorted(cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
    return {"name": name, "archive": str(archive), "built": not found}


def inputs(source: Path) -> Iterator[Path]:
    """All files of a checkout that a release depends on, relative to it, in a stable order."""
    yield from map(Path, ("LICENSE", "pyproject.toml", "requirements.lock"))
    package = source / "agent" / "pinna"
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(source)


def fingerprint(source: Path, machine: str, python: str) -> str:
    """Eight hexadecimal digits over what goes in: sources, locks, the target, and this program."""
    digest = hashlib.sha256(f"{machine} {python}".encode())
    digest.update(Path(__file__).read_bytes())
    for path in inputs(source):
        content = (source / path).read_bytes()
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:8]


def assemble(source: Path, name: str, machine: str, python: str, folder: Path) -> Path:
    """Make the release in `folder`; the path of its archive."""
    tree = folder / name
    packages = tree / "lib" / f"python{python}" / "site-packages"
    packages.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(locked(source / "requirements.lock", machine, python))
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC)] + [f"manylinux2014_{machine}"]
    pip(
        "install",
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"),
        # Of pip's own Python; the lock's markers and the wheels' tags have been matched to the target's.
        "--ignore-requires-python",
        *("--implementation", "cp", "--python-version", python),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("--target", str(packages), "-r", str(requirements)),
        what="install what requirements.lock names",
    )
    shutil.rmtree(packages / "bin", ignore_errors=True)  # scripts for this machine's Python
    with zipfile.ZipFile(wheel(source, packages, folder)) as ours:
        ours.extractall(packages)  # noqa: S202  (we have just made it)
    for tool in ("setuptools*", "_distutils_hack", "distutils-precedence.pth"):  # it has done its work
        for path in packages.glob(tool):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for record in packages.glob("*.dist-info/RECORD"):  # names the scripts, which differ
        record.unlink()

    (tree / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    (tree / "bin").mkdir()
    (tree / "bin" / "python3").symlink_to(f"/usr/bin/python{python}")
    (tree / "bin" / "pinna").write_text(
        f"#!{RELEASES}/{name}/bin/python3\nfrom pinna.cli import main\n\nraise SystemExit(main())\n"
    )
    archive = folder / "archive.tar.gz"
    pack(tree, archive, last=tree / "bin" / "pinna")
    return archive


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
    lines, wanted = [], True
    for line in lock.read_text().splitlines():
        if requirement := re.fullmatch(r"([^\s#;]+)(?:\s*;\s*(.+?))?\s*\\", line):
            pinned, marker = requirement.groups()
            wanted = marker is None or Marker(marker).evaluate(target)
            line = f"{pinned} \\"  # noqa: PLW2901  (the same line, without its marker)
        if wanted:
            lines.append(line)
    return "\n".join(lines) + "\n"


def wheel(source: Path, packages: Path, folder: Path) -> Path:
    """Pinna's own wheel, built from a copy, by the locked setuptools, which `packages` has."""
    copy = folder / "source"
    for path in inputs(source):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, copy / path)
    (copy / "README.md").touch()  # pyproject.toml names it; readers are elsewhere
    pip(
        "wheel",
        *("--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir"),
        *("--wheel-dir", str(folder), str(copy)),
        what="build Pinna's wheel",
        environment={"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    (built,) = folder.glob("pinna-*.whl")
    return built


def pip(verb: str, *arguments: str, what: str, environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(  # noqa: S603  (our own Python and arguments)
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise BuildError(f"pip could not {what}: {'; '.join(errors[-3:])}")


def pack(tree: Path, archive: Path, last: Path) -> None:
    """`tree` as a gzipped tar, sorted but for `last`, of root, of 1980: equal trees give equal bytes."""
    paths = sorted((tree, *tree.rglob("*")), key=lambda path: (path == last, path.as_posix()))
    with (
        archive.open("wb") as raw,
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


if __name__ == "__main__":
    sys.exit(main())
