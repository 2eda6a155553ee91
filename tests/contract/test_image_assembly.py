"""From a system's tar to the image and its block map: the same bytes each time, sound file systems."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from image.bmap import block_map
from image.boards import BOARDS, choose, only
from image.filesystems import BOOT_BYTES, BOOT_START, ROOT_START, Image
from image.tools import Tools, tools
from image.wishes import Wishes, files
from tests.support import small_system as system
from tests.virtual_pi.processes import need

from image import describe, filesystems, tree

EPOCH = system.EPOCH


def assemble(folder: Path, with_: Tools, *, seed: int, boards: str = "3b,3b+,4b,cm4") -> Image:
    folder.mkdir()
    source = system.write(folder / "source.tar", seed=seed)
    tree.canonical(source, folder / "root.tar", epoch=EPOCH)
    boot = [
        *only(choose(boards), tree.boot_files(folder / "root.tar")),
        *files(Wishes("http://hub.local:8080")),
    ]
    return filesystems.write(folder / "pinna.img", folder / "root.tar", boot, with_, epoch=EPOCH)


@pytest.fixture(scope="module")
def with_() -> Tools:
    return tools()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, with_: Tools) -> Image:
    return assemble(tmp_path_factory.mktemp("made") / "1", with_, seed=1)


@pytest.fixture(scope="module")
def root_partition(made: Image) -> Path:
    """Its ext4 file system as a file."""
    path = made.path.with_name("root.ext4")
    cut(made.path, path, ROOT_START, made.layout.root_bytes)
    return path


def cut(image: Path, part: Path, start: int, size: int) -> None:
    with image.open("rb") as source, part.open("wb") as target:
        source.seek(start)
        target.write(source.read(size))


def ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_builds_are_the_same_bit_for_bit(made: Image, with_: Tools, tmp_path: Path) -> None:
    """Other order, other times, another owner's name, another of two names first: none is content."""
    other = assemble(tmp_path / "2", with_, seed=2)
    assert (tmp_path / "2/source.tar").read_bytes() != made.path.with_name("source.tar").read_bytes()
    assert describe.sha256(other.path) == describe.sha256(made.path)
    assert block_map(other) == block_map(made)


def test_other_content_is_another_image(made: Image, with_: Tools, tmp_path: Path) -> None:
    other = assemble(tmp_path / "2", with_, seed=1, boards="3b")
    assert other.layout.root_uuid != made.layout.root_uuid
    assert describe.sha256(other.path) != describe.sha256(made.path)


def test_the_table_is_a_plain_mbr(made: Image) -> None:
    table = json.loads(ask(need("sfdisk", "fdisk"), "--json", str(made.path)))["partitiontable"]
    boot, root = table["partitions"]
    assert table["label"] == "dos"
    assert (boot["start"] * 512, boot["size"] * 512, boot["type"]) == (BOOT_START, BOOT_BYTES, "c")
    assert (root["start"] * 512, root["size"] * 512, root["type"]) == (
        ROOT_START,
        made.layout.root_bytes,
        "83",
    )


def test_the_root_file_system_is_sound_and_keeps_what_files_are(root_partition: Path) -> None:
    ask(need("e2fsck", "e2fsprogs"), "-fn", str(root_partition))

    def stat(path: str) -> str:
        return ask(need("debugfs", "e2fsprogs"), "-R", f"stat {path}", str(root_partition))

    assert "Mode:  04755" in stat("/usr/bin/sudo")
    assert "Group:    42" in stat("/etc/shadow")
    assert stat("/usr/bin/perl").split()[1] == stat("/usr/bin/perl5.40.1").split()[1]  # one inode
    assert "Mode:  01777" in stat("/tmp")
    assert '"usr/bin"' in stat("/bin")
    assert "Mode:  0600" in stat("/.hidden")
    listed = ask(need("debugfs", "e2fsprogs"), "-R", "ls -p /boot/firmware", str(root_partition))
    assert [line.split("/")[5] for line in listed.splitlines() if line] == [".", ".."]
    label = ask(need("blkid", "util-linux"), "-p", "-o", "value", "-s", "LABEL", str(root_partition))
    assert label.strip() == "PINNA"


def test_no_time_is_later_than_the_epoch(made: Image) -> None:
    times = [entry.mtime for _, entry in tree.members(made.path.with_name("root.tar"))]
    assert max(times) == EPOCH
    assert 1_700_000_000 in times


def test_the_boot_partition_holds_what_the_boards_start_from(
    made: Image, with_: Tools, tmp_path: Path
) -> None:
    part = tmp_path / "boot.fat"
    cut(made.path, part, BOOT_START, BOOT_BYTES)
    told = ask(need("blkid", "util-linux"), "-p", "-o", "export", str(part))
    assert "LABEL=CIDATA" in told
    assert "VERSION=FAT32" in told
    listed = with_.run("mdir", "-i", str(part), "-b", "-/", "::", epoch=EPOCH).decode().split("\n")
    names = {line.removeprefix("::/") for line in listed if line and not line.endswith("/")}
    wanted = {"pinna.toml", "user-data", "meta-data", "network-config", "overlays/some.dtbo", system.KERNEL}
    assert wanted | {board.device_tree for board in BOARDS.values()} <= names
    assert "bcm2712-rpi-5-b.dtb" not in names
    for item in tree.boot_files(made.path.with_name("root.tar")):
        if str(item.path) in names:
            assert with_.run("mtype", "-i", str(part), f"::/{item.path}", epoch=EPOCH) == item.content


def test_bmaptool_takes_the_map(made: Image, tmp_path: Path) -> None:
    """It checks each range's checksum, and its own."""
    bmap, card = tmp_path / "pinna.bmap", tmp_path / "card"
    bmap.write_text(block_map(made))
    ask("bmaptool", "--quiet", "copy", "--no-sig-verify", "--bmap", str(bmap), str(made.path), str(card))
    assert describe.sha256(card) == describe.sha256(made.path)


def test_what_the_map_leaves_out_may_hold_anything(made: Image, tmp_path: Path) -> None:
    """A card keeps its old bytes there: both file systems are sound all the same, and hold the same files."""
    card = tmp_path / "card"
    with card.open("wb") as file:
        for _ in range(0, made.layout.size, 1 << 20):
            file.write(b"\xa5" * (1 << 20))
    written = 0
    with made.path.open("rb") as source, card.open("r+b") as target:
        for span in re.findall(r"<Range chksum=\"[0-9a-f]{64}\"> (\S+) </Range>", block_map(made)):
            first, last = int(span.split("-")[0]), int(span.split("-")[-1])
            source.seek(first * 4096)
            target.seek(first * 4096)
            written += target.write(source.read((last + 1 - first) * 4096))
    assert written < made.layout.size // 4
    root, boot = tmp_path / "root.ext4", tmp_path / "boot.fat"
    cut(card, root, ROOT_START, made.layout.root_bytes)
    ask(need("e2fsck", "e2fsprogs"), "-fn", str(root))
    command = [need("debugfs", "e2fsprogs"), "-R", "cat /usr/bin/sudo", str(root)]
    assert (
        subprocess.run(command, capture_output=True, check=True).stdout
        == system.contents()["usr/bin/sudo"][1]
    )
    cut(card, boot, BOOT_START, BOOT_BYTES)
    ask(need("fsck.fat", "dosfstools"), "-n", str(boot))
