"""From an image of Raspberry Pi OS to one of ours: nothing else passes for one, and what is its own stays."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from image.__main__ import assemble
from image.boards import RASPIOS_BOARDS, REFUSED, check_raspios, choose
from image.debian import DISK_BYTES, Base
from image.errors import BadInputError
from image.filesystems import BOOT_START, ROOT_START, Image
from image.partitions import table
from image.system import look
from image.tools import tools
from image.wishes import Wishes
from tests.support import small_raspios as system
from tests.virtual_pi.processes import need

from image import describe, emulator, raspios, tree

CHECKOUT = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@here"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return system.image(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def packed(card: Path) -> Path:
    """As it is downloaded."""
    path = card.with_suffix(".img.xz")
    path.write_bytes(lzma.compress(card.read_bytes(), preset=0))
    return path


@pytest.fixture(scope="module")
def opened(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    work = tmp_path_factory.mktemp("opened")
    raspios.take_apart(packed, work)
    return Base(work)


def on(disk: Path, command: str) -> bytes:
    return tools().run("debugfs", "-R", command, str(disk), epoch=0)


def refused(folder: Path, file: Path) -> str:
    work = folder / "work"
    work.mkdir(parents=True)
    with pytest.raises(BadInputError) as error:
        raspios.take_apart(file, work)
    return str(error.value)


class TestTakenApart:
    def test_the_disk_is_sound_and_has_grown(self, opened: Base) -> None:
        check = [need("e2fsck", "e2fsprogs"), "-fn", str(opened.disk)]
        subprocess.run(check, check=True, capture_output=True, timeout=120)
        assert opened.disk.stat().st_size == DISK_BYTES
        blocks = int(on(opened.disk, "stats").decode().split("Block count:")[1].split()[0])
        size = int(on(opened.disk, "stats").decode().split("Block size:")[1].split()[0])
        assert blocks * size == DISK_BYTES
        assert opened.disk.stat().st_blocks * 512 < 256 << 20

    def test_the_boot_partition_s_files_are_a_folder_of_it(self, opened: Base) -> None:
        for name, content in system.boot_files().items():
            assert on(opened.disk, f"cat /boot/firmware/{name}") == content

    def test_the_root_s_own_files_stay(self, opened: Base) -> None:
        for name, content in system.root_files().items():
            assert on(opened.disk, f"cat /{name}") == content

    def test_the_emulated_machine_finds_its_first_process(self, opened: Base) -> None:
        assert on(opened.disk, f"cat /{emulator.STUB_PATH}") == emulator.STUB
        assert b"Mode:  0755" in on(opened.disk, f"stat /{emulator.STUB_PATH}")

    def test_an_image_that_is_not_compressed_gives_the_same(
        self, card: Path, opened: Base, tmp_path: Path
    ) -> None:
        raspios.take_apart(card, tmp_path)
        assert card.exists()
        for folder in ("boot/firmware", "etc"):
            listed = on(tmp_path / "disk.raw", f"ls -p /{folder}")
            assert listed == on(opened.disk, f"ls -p /{folder}")
            assert listed.count(b"\n") > 3

    def test_what_every_board_needs_is_there(self, opened: Base) -> None:
        raspios.check(opened, choose("", RASPIOS_BOARDS), key=True)


class TestRefused:
    def test_a_file_that_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "readme.txt").write_text("hello " * 200)
        assert "no partition table" in refused(tmp_path, tmp_path / "readme.txt")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=r"none\.img is no file.*raspberrypi\.com"):
            raspios.base(tmp_path / "none.img")

    def test_an_image_that_is_cut_short(self, card: Path, tmp_path: Path) -> None:
        short = tmp_path / "short.img"
        with card.open("rb") as whole, short.open("wb") as file:
            file.write(whole.read(card.stat().st_size - (1 << 20)))
        assert "cut short" in refused(tmp_path, short)

    @pytest.mark.parametrize("damage", ["cut", "changed"])
    def test_a_download_that_is_damaged(self, damage: str, packed: Path, tmp_path: Path) -> None:
        whole = packed.read_bytes()
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        (tmp_path / "x.img.xz").write_bytes(whole[:middle] if damage == "cut" else changed)
        assert "damaged or cut short" in refused(tmp_path, tmp_path / "x.img.xz")

    @pytest.mark.parametrize(
        ("at", "value", "told"),
        [
            (450, b"\xee", "has a GPT"),
            (466, b"\x82", "not the two partitions"),
            (482, b"\x83", "not the two partitions"),
            (474, b"\xff\xff\xff\x0f", "no Lite image"),
        ],
    )
    def test_a_table_that_is_another(self, at: int, value: bytes, told: str, card: Path) -> None:
        sector = bytearray(card.read_bytes()[:512])
        boot, root = table(bytes(sector), card.stat().st_size)
        assert (boot.start, boot.size, root.size) == (system.BOOT_START, system.BOOT_BYTES, system.ROOT_BYTES)
        sector[at : at + len(value)] = value
        with pytest.raises(BadInputError, match=told):
            table(bytes(sector), card.stat().st_size)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"etc/rpi-issue": None}, "it is not Raspberry Pi OS"),
            ({"usr/lib/os-release": b"VERSION_CODENAME=bullseye\n"}, "bullseye, not bookworm or trixie"),
            ({"usr/bin/dpkg": system.root_files(machine=40)["usr/bin/dpkg"]}, "32-bit"),
            ({"etc/fstab": b"LABEL=rootfs / ext4 defaults 0 1\n"}, "by PARTUUID"),
        ],
    )
    def test_another_system(self, change: dict[str, bytes | None], told: str, tmp_path: Path) -> None:
        files = {**system.root_files(), **change}
        kept = {name: content for name, content in files.items() if content is not None}
        message = refused(tmp_path, system.image(tmp_path / "card", root=kept))
        assert told in message
        assert "Lite (64 bit)" in message

    def test_partitions_that_hold_something_else(self, card: Path, tmp_path: Path) -> None:
        for name, start, told in (
            ("boot", system.BOOT_START, "boot partition cannot be read"),
            ("root", system.BOOT_START + system.BOOT_BYTES, "no ext4"),
        ):
            other = tmp_path / f"{name}.img"
            other.write_bytes(card.read_bytes())
            with other.open("r+b") as file:
                file.seek(start)
                file.write(b"\xaa" * 8192)
            assert told in refused(tmp_path / name, other)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--base", "/does/not/exist.img"], "/does/not/exist.img is no file"),
            (["--base", __file__], f"{__file__}: it has no partition table"),
            (["--base", "x.img", "--boards", "zero"], "board zero is not supported"),
            (
                ["--base", "x.img", "--boards", "9"],
                "Boards are zero2w, 3a+, 3b, 3b+, 4b, 400, cm4, 5, cm5, 500",
            ),
            (["--base", "x.img", "--fresh"], "Give one of the two"),
        ],
    )
    def test_the_command_says_so_in_one_line(
        self, arguments: list[str], message: str, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "image", "--output", tmp_path / "out", *arguments]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 3, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr


class TestBoards:
    def test_what_debian_s_kernel_cannot_start_is_told_of_the_other_base(self) -> None:
        for name in REFUSED.keys() & RASPIOS_BOARDS.keys():
            with pytest.raises(BadInputError, match="--base"):
                choose(name)
            assert choose(name, RASPIOS_BOARDS) == [RASPIOS_BOARDS[name]]

    @pytest.mark.parametrize("suite", ["bookworm", "trixie"])
    def test_a_whole_boot_partition_passes(self, suite: str) -> None:
        check_raspios(RASPIOS_BOARDS.values(), as_files(system.boot_files(suite)), system.DISK_ID)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"bcm2712-rpi-500.dtb": None}, "has no bcm2712-rpi-500.dtb"),
            ({"kernel_2712.img": None}, "has no kernel_2712.img"),
            ({"initramfs8": None}, "has no initramfs8"),
            ({"config.txt": None}, "has no config.txt"),
            ({"config.txt": b"auto_initramfs=1\narm_64bit=0\n"}, "32-bit kernel"),
            ({"config.txt": b"\n"}, "lacks auto_initramfs=1"),
            ({"cmdline.txt": b"root=/dev/mmcblk0p2 resize\n"}, "lacks root=PARTUUID=4f1a2b3c-02"),
            ({"cmdline.txt": system.CMDLINE.encode() + b" init=/bin/sh\n"}, "asks for no first start"),
            ({"cmdline.txt": system.CMDLINE.encode() + b"\nresize\n"}, "more than one line"),
        ],
    )
    def test_what_would_not_start_is_named(self, change: dict[str, bytes | None], told: str) -> None:
        files = {**system.boot_files(), **change}
        kept = {name: content for name, content in files.items() if content is not None}
        with pytest.raises(BadInputError, match=told):
            check_raspios(RASPIOS_BOARDS.values(), as_files(kept), system.DISK_ID)

    def test_one_board_needs_only_its_own(self) -> None:
        files = {name: data for name, data in system.boot_files().items() if "2712" not in name}
        check_raspios(choose("zero2w,3b", RASPIOS_BOARDS), as_files(files), system.DISK_ID)


def as_files(files: dict[str, bytes]) -> list[tree.File]:
    return [tree.File(tree.PurePosixPath(name), content) for name, content in files.items()]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
class TestAssembled:
    def make(self, folder: Path, suite: str) -> tuple[Path, Image]:
        root = system.system(folder, system.root_files(suite), system.boot_files(suite))
        boards = choose("", RASPIOS_BOARDS)
        wishes = Wishes("http://hub.local:8080", authorized_key=KEY if suite == "trixie" else "")
        return root, assemble(folder / "pinna.img", root, boards, wishes, tools(), system.EPOCH)

    def test_the_system_finds_its_partitions(self, suite: str, tmp_path: Path) -> None:
        """By the number that its fstab and its command line name, and with the labels it had."""
        _, made = self.make(tmp_path, suite)
        told = subprocess.run(
            [need("sfdisk", "fdisk"), "--json", str(made.path)], capture_output=True, check=True, timeout=60
        )
        assert json.loads(told.stdout)["partitiontable"]["id"] == f"{system.DISK_ID:#x}"
        for start, label in ((BOOT_START, "bootfs"), (ROOT_START, "rootfs")):
            probe = [need("blkid", "util-linux"), "-p", "-O", str(start), "-o", "value", "-s", "LABEL"]
            found = subprocess.run(
                [*probe, str(made.path)], capture_output=True, text=True, timeout=60, check=True
            )
            assert found.stdout.strip().lower() == label

    def test_what_is_its_own_stays_and_ours_is_added(self, suite: str, tmp_path: Path) -> None:
        _, made = self.make(tmp_path, suite)

        def read(name: str) -> bytes:
            return tools().run("mtype", "-i", f"{made.path}@@{BOOT_START}", f"::/{name}", epoch=0)

        for name, content in system.boot_files(suite).items():
            assert name == "user-data" or read(name) == content
        assert b'url = "http://hub.local:8080"' in read("pinna.toml")
        if suite == "trixie":
            (user,) = yaml.safe_load(read("user-data"))["users"]
            assert user["ssh_authorized_keys"] == [KEY]
        listed = tools().run("mdir", "-i", f"{made.path}@@{BOOT_START}", "-b", "::", epoch=0).decode()
        assert ("user-data" in listed) == (suite == "trixie")

    def test_what_goes_with_it_tells_what_it_is(self, suite: str, tmp_path: Path) -> None:
        root, made = self.make(tmp_path, suite)
        assert look(root).init_format == {"bookworm": "systemd", "trixie": "cloudinit-rpi"}[suite]
        info = describe.build_info(
            made, root, epoch=system.EPOCH, boards=choose("5", RASPIOS_BOARDS), options={}
        )
        assert info["suite"] == suite
        assert info["kernel"] == "1:6.12.47-1"
        assert info["disk_id"] == "4f1a2b3c"
        assert [part["label"] for part in info["partitions"]] == ["bootfs", "rootfs"]


def test_a_key_without_cloud_init_is_refused(tmp_path: Path) -> None:
    old = system.image(tmp_path, root=system.root_files("bookworm"), boot=system.boot_files("bookworm"))
    (tmp_path / "work").mkdir()
    raspios.take_apart(old, tmp_path / "work")
    opened = Base(tmp_path / "work")
    raspios.check(opened, choose("4b", RASPIOS_BOARDS), key=False)
    with pytest.raises(BadInputError, match=r"--authorized-key.*Imager"):
        raspios.check(opened, choose("4b", RASPIOS_BOARDS), key=True)
