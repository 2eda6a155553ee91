"""What goes with an image: packages, SBOMs, how it was built, checksums, the entry for Imager."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path

from image.boards import Board
from image.errors import ImageError
from image.filesystems import BOOT_BYTES, BOOT_START, ROOT_START, Image
from image.programs import ask
from image.system import look

from image import tree

_KERNELS = ("linux-image-arm64", "linux-image-rpi-v8")  # Debian's, and that of Raspberry Pi OS

_NAMESPACE = "https://pinna.invalid/images"  # of SPDX documents: a name, not a place (RFC 2606)


def packages(root: Path) -> list[tuple[str, str, str]]:
    """(name, version, architecture) of what dpkg has installed, sorted."""
    found = []
    for paragraph in tree.read(root, "var/lib/dpkg/status").decode().strip().split("\n\n"):
        fields = Parser().parsestr(paragraph, headersonly=True)
        if fields["Status"] == "install ok installed":
            found.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(found)


def write_sboms(root: Path, stem: Path, *, version: str, epoch: int) -> list[Path]:
    """CycloneDX and SPDX (JSON) of Debian's packages in the system, named as `stem` and a suffix."""
    debsbom = Path(sys.executable).with_name("debsbom")
    if not debsbom.exists():
        raise ImageError("debsbom is not installed", hint="Run: agent/bootstrap image")
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{_NAMESPACE}/{stem.name}/{epoch}")
    command = [
        *(str(debsbom), "generate", "--root", str(root), "--out", str(stem), "-t", "cdx", "-t", "spdx"),
        *("--distro-name", "pinna", "--distro-version", version, "--distro-arch", "arm64"),
        *("--timestamp", datetime.fromtimestamp(epoch, UTC).isoformat(), "--cdx-serialnumber", str(identity)),
        *("--spdx-namespace", f"{_NAMESPACE}/{stem.name}"),
    ]
    ask(command, env={"PYTHONHASHSEED": "0"})  # its order is that of Python's sets
    written = [stem.with_name(f"{stem.name}.{kind}.json") for kind in ("cdx", "spdx")]
    for path in written:
        json.loads(path.read_text())
    return written


def build_info(
    made: Image, root: Path, *, epoch: int, boards: Iterable[Board], options: Mapping[str, object]
) -> dict[str, object]:
    """Nothing in it is of the day or the place of the build: equal inputs give equal files."""
    plan = made.layout
    kernel = next((version for name, version, _ in packages(root) if name in _KERNELS), "")
    return {
        "name": made.path.name,
        "epoch": epoch,
        "commit": commit(),
        "suite": look(root).suite,
        "kernel": kernel,
        "boards": [board.name for board in boards],
        "options": dict(options),
        "system_sha256": sha256(root),
        "image_sha256": sha256(made.path),
        "image_bytes": plan.size,
        "disk_id": f"{plan.disk_id:08x}",
        "partitions": [
            {"start": BOOT_START, "bytes": BOOT_BYTES, "type": "0c", "label": plan.names.boot},
            {
                "start": ROOT_START,
                "bytes": plan.root_bytes,
                "type": "83",
                "label": plan.names.root,
                "uuid": str(plan.root_uuid),
            },
        ],
    }


def imager_list(
    made: Image,
    packed: Path,
    *,
    version: str,
    epoch: int,
    boards: Sequence[Board],
    url: str,
    init_format: str,
) -> dict[str, object]:
    """The list, of one entry, for Raspberry Pi Imager 2; `url` is the folder that the image is in."""
    names = ", ".join(board.name for board in boards)
    return {
        "os_list": [
            {
                "name": f"Pinna {version}",
                "description": f"A microphone on the network, for {names}",
                "url": f"{url.rstrip('/')}/{packed.name}",
                "release_date": datetime.fromtimestamp(epoch, UTC).date().isoformat(),
                "extract_size": made.layout.size,
                "extract_sha256": sha256(made.path),
                "image_download_size": packed.stat().st_size,
                "image_download_sha256": sha256(packed),
                "devices": sorted({board.imager for board in boards}),
                "init_format": init_format,
            }
        ]
    }


def sums(paths: Iterable[Path]) -> str:
    """As `sha256sum --check` reads it."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(paths))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit() -> str:
    """Of the checkout that this is part of; `-dirty` is added where it has changes. Empty outside of git."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    done = subprocess.run(git, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def commit_time() -> int | None:
    """When what goes into the image was last changed, in seconds since 1970; None outside of git."""
    checkout = Path(__file__).parents[1]
    sources = ("agent/pinna", "ansible", "asound.conf", "image/*.sh", "requirements.lock")
    git = ["git", "-C", str(checkout), "log", "-1", "--format=%ct", "--", *sources]
    done = subprocess.run(git, capture_output=True, text=True, timeout=60, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else None
