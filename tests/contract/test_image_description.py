"""What goes with an image: true to what is in it, and the same for the same image."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest
from image.boards import choose
from image.filesystems import Image, Layout
from tests.support import small_system as system

from image import describe, tree

EPOCH = system.EPOCH


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree.canonical(system.write(tmp_path / "source.tar"), tmp_path / "root.tar", epoch=EPOCH)
    return tmp_path / "root.tar"


@pytest.fixture
def made(tmp_path: Path) -> Image:
    path = tmp_path / "pinna-1.img"
    path.write_bytes(b"an image")
    return Image(path, Layout(8, 4, 0xABCD, uuid.UUID(int=1), 7), [])


def test_packages_are_those_that_are_installed(root: Path) -> None:
    assert describe.packages(root) == [("linux-image-arm64", "6.12.0-1", "arm64")]


def test_sboms_name_them_and_are_the_same_each_time(root: Path, tmp_path: Path) -> None:
    texts = []
    for folder in (tmp_path / "1", tmp_path / "2"):
        folder.mkdir()
        written = describe.write_sboms(root, folder / "pinna-1", version="1", epoch=EPOCH)
        texts.append([path.read_text() for path in written])
    assert texts[0] == texts[1]
    cyclone, spdx = (json.loads(text) for text in texts[0])
    assert cyclone["bomFormat"] == "CycloneDX"
    assert ("linux-image-arm64", "6.12.0-1") in {
        (each["name"], each["version"]) for each in cyclone["components"]
    }
    assert spdx["spdxVersion"].startswith("SPDX-")
    assert "linux-image-arm64" in {package["name"] for package in spdx["packages"]}


def test_build_info_tells_what_is_on_the_card(root: Path, made: Image) -> None:
    info = describe.build_info(made, root, epoch=EPOCH, boards=choose("3b,4b"), options={"docker": True})
    assert info["kernel"] == "6.12.0-1"
    assert info["boards"] == ["Raspberry Pi 3 Model B", "Raspberry Pi 4 Model B"]
    assert info["image_sha256"] == describe.sha256(made.path)
    assert info["disk_id"] == "0000abcd"
    json.dumps(info)


def test_imager_is_told_to_customise(made: Image, tmp_path: Path) -> None:
    packed = tmp_path / "pinna-1.img.xz"
    packed.write_bytes(b"smaller")
    listed = describe.imager_list(
        made,
        packed,
        version="1",
        epoch=EPOCH,
        boards=choose("3b,4b"),
        url="https://h/x/",
        init_format="cloudinit",
    )
    (entry,) = listed["os_list"]
    assert entry["init_format"] == "cloudinit"
    assert entry["url"] == "https://h/x/pinna-1.img.xz"
    assert entry["devices"] == ["pi3-64bit", "pi4-64bit"]
    assert (entry["image_download_size"], entry["image_download_sha256"]) == (7, describe.sha256(packed))
    assert (entry["extract_size"], entry["extract_sha256"]) == (8, describe.sha256(made.path))


def test_sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    (tmp_path / "SHA256SUMS").write_text(describe.sums([tmp_path / "b", tmp_path / "a"]))
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
