"""What is given wrongly is refused by name before anything is built; so is a system that would not start."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from image.boards import BOARDS, REFUSED, check, choose, only
from image.cache import need_space
from image.errors import BadInputError, ImageError, NoSpaceError
from image.wishes import Wishes, files, read_key
from tests.support import small_system as system

from image import tree

CHECKOUT = Path(__file__).parents[2]


def boot(folder: Path, **change: str) -> list[tree.File]:
    changed = {f"boot/firmware/{name.replace('_', '.')}": text.encode() for name, text in change.items()}
    source = system.write(folder / "source.tar", change=changed)
    tree.canonical(source, folder / "root.tar", epoch=system.EPOCH)
    return tree.boot_files(folder / "root.tar")


@pytest.mark.parametrize("name", REFUSED)
def test_a_board_that_does_not_work_is_refused_with_the_alternative(name: str) -> None:
    with pytest.raises(BadInputError) as error:
        choose(f"3b,{name}")
    why, instead = REFUSED[name]
    assert name in str(error.value)
    assert why in str(error.value)
    assert instead in str(error.value)


def test_an_unknown_board_is_told_those_that_there_are() -> None:
    with pytest.raises(BadInputError, match=r"'6'.*3b, 3b\+, 4b, cm4"):
        choose("6")


def test_a_whole_boot_partition_passes_for_every_board(tmp_path: Path) -> None:
    check(BOARDS.values(), boot(tmp_path))


@pytest.mark.parametrize(
    "name", sorted({name for board in BOARDS.values() for name in (board.device_tree, *board.firmware)})
)
def test_a_missing_file_of_a_board_is_named(name: str, tmp_path: Path) -> None:
    without = [item for item in boot(tmp_path) if item.path.name != name]
    with pytest.raises(ImageError, match=f"has no {name}"):
        check(BOARDS.values(), without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config_txt": system.CONFIG.replace("arm_64bit=1", "")}, "config.txt lacks arm_64bit=1"),
        ({"config_txt": system.CONFIG.replace("kernel=vmlinuz", "kernel=other")}, "has no other"),
        (
            {"config_txt": system.CONFIG.replace("initramfs ", "# ")},
            "does not name one kernel and one initramfs",
        ),
        ({"cmdline_txt": system.CMDLINE.replace("LABEL=PINNA", "/dev/sda1")}, "lacks root=LABEL=PINNA"),
        ({"cmdline_txt": system.CMDLINE.replace("rootwait", "cma=64M rootwait")}, "sets cma="),
        ({"cmdline_txt": system.CMDLINE.replace("rw", "rw\n")}, "more than one line"),
    ],
)
def test_what_would_not_start_is_named(change: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message):
        check(BOARDS.values(), boot(tmp_path, **change))


def test_only_the_chosen_boards_device_trees_stay(tmp_path: Path) -> None:
    kept = {item.path.name for item in only(choose("4b"), boot(tmp_path)) if item.path.suffix == ".dtb"}
    assert kept == {"bcm2711-rpi-4-b.dtb"}


def test_what_the_owner_finds_says_what_was_asked_for() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@here"
    texts = {
        str(item.path): item.content.decode() for item in files(Wishes("https://hub:8443/x", "ear", key))
    }
    settings = tomllib.loads(texts["pinna.toml"])
    assert settings == {"name_prefix": "ear", "hub": {"url": "https://hub:8443/x"}}
    assert texts["user-data"].startswith("#cloud-config\n")
    (user,) = yaml.safe_load(texts["user-data"])["users"]
    assert user["ssh_authorized_keys"] == [key]
    assert user["lock_passwd"] is True
    assert yaml.safe_load(texts["network-config"])["ethernets"]["wired"]["dhcp4"] is True
    assert "users" not in yaml.safe_load(files(Wishes())[1].content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hub_url": "hub.local:8080"},
        {"hub_url": "http://user:secret@hub"},
        {"name_prefix": "my pi"},
        {"name_prefix": "-"},
        {"authorized_key": "hello"},
        {"authorized_key": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"},
    ],
)
def test_values_that_cannot_be_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(BadInputError):
        Wishes(**wrong)


def test_a_private_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    with pytest.raises(BadInputError, match=r"private key.*key\.pub"):
        read_key(path)
    assert Wishes(authorized_key=read_key(path.with_suffix(".pub"))).authorized_key.startswith("ssh-ed25519 ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--boards", "5"], 3, "board 5 is not supported"),
        (["--hub-url", "nowhere"], 3, "the hub's address 'nowhere' is none"),
        (["--authorized-key", "/does/not/exist"], 3, "/does/not/exist cannot be read"),
        (["--nonsense"], 2, "unrecognized arguments"),
    ],
)
def test_the_command_says_so_in_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "image", "--output", tmp_path / "out", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_full_is_named_before_the_work_begins(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match=rf"{tmp_path} has \d+ MB free") as error:
        need_space(tmp_path, 1 << 60)
    assert error.value.exit_code == 4
    assert "XDG_CACHE_HOME" in str(error.value)
