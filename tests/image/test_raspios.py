"""An image from one of the layout of Raspberry Pi OS: the playbook runs in it, and what is its own stays.

The real one is not here to be had. Debian's base takes its place: the same architecture and package manager,
dressed in all that the build goes by, and without modules that fit the emulated machine's kernel.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from image.__main__ import assemble, source_date_epoch
from image.appliance import appliance
from image.boards import RASPIOS_BOARDS, choose
from image.debian import DISK_BYTES, base, mend
from image.partitions import Partition, cut
from image.system import look
from image.tools import tools
from image.wishes import Wishes
from tests.support import small_raspios as layout

from image import raspios, tree

pytestmark = [pytest.mark.full, pytest.mark.timeout(7200)]

ROOT_BYTES = 2600 << 20
OWN = ("etc/rpi-issue", "etc/fstab", "etc/resolv.conf")
UPDATES = "etc/initramfs-tools/update-initramfs.conf"
MODULES = "usr/lib/modules"


def on(disk: Path, *commands: str) -> bytes:
    script = disk.with_name("script")
    script.write_text("".join(f"{command}\n" for command in commands))
    return tools().run("debugfs", "-w", "-f", str(script), str(disk), epoch=layout.EPOCH)


def removed(disk: Path, folder: str, copy: Path) -> Iterator[str]:
    """The commands that empty a folder of the disk."""
    tools().run("debugfs", "-R", f"rdump /{folder} {copy}", str(disk), epoch=0)
    for path in sorted((copy / Path(folder).name).rglob("*"), reverse=True):
        name = f"/{folder}/{path.relative_to(copy / Path(folder).name)}"
        yield f"rmdir {name}" if path.is_dir() else f"rm {name}"


@pytest.fixture(scope="module")
def card(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image file of Debian's base in the dress of Raspberry Pi OS."""
    folder = tmp_path_factory.mktemp("card")
    disk = folder / "root.ext4"
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        debian = base(docker=True, fresh=False)
    with debian.disk.open("rb") as source:
        cut(source, Partition(0, 0, DISK_BYTES), disk)
    (folder / "firmware").mkdir()
    on(disk, *removed(disk, tree.BOOT, folder / "firmware"), "rm /var/lib/pinna-image/run")
    # A folder moves by a second name.
    on(disk, f"ln /{MODULES} /{MODULES}-of-debian", f"unlink /{MODULES}", f"mkdir /{MODULES}")
    for name in OWN:
        file = folder / Path(name).name
        file.write_bytes(layout.root_files()[name])
        on(disk, f"rm /{name}", "cd /etc", f"write {file} {file.name}")
    mend(disk)
    tools().run("resize2fs", str(disk), f"{ROOT_BYTES >> 10}K", epoch=layout.EPOCH)
    return layout.image(folder / "made", part=disk)


@pytest.fixture(scope="module")
def root(card: Path, pytestconfig: pytest.Config) -> Path:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        opened = raspios.base(card)
        raspios.check(opened, choose("", RASPIOS_BOARDS), key=True)
        return appliance(opened, docker=False, settings=None, epoch=source_date_epoch())


@pytest.fixture(scope="module")
def entries(root: Path) -> dict[str, tarfile.TarInfo]:
    return dict(tree.members(root))


def text(root: Path, name: str) -> str:
    return tree.read(root, name).decode()


def test_what_is_its_own_is_what_it_was(root: Path, card: Path, entries: dict[str, tarfile.TarInfo]) -> None:
    for name in OWN:
        assert text(root, name) == layout.root_files()[name].decode()
    disk = card.parents[1] / "root.ext4"
    before = tools().run("debugfs", "-R", f"cat /{UPDATES}", str(disk), epoch=0)
    assert before
    assert tree.read(root, UPDATES) == before
    assert {str(item.path): item.content for item in tree.boot_files(root)} == layout.boot_files()
    assert "etc/cloud/cloud.cfg.d/90-pinna.cfg" not in entries
    assert "etc/systemd/system/systemd-networkd-wait-online.service" not in entries


def test_ours_starts_by_itself_and_nothing_of_ours_that_was_not_chosen(
    root: Path, entries: dict[str, tarfile.TarInfo]
) -> None:
    wanted = ("multi-user.target.wants/pinna-agent", "multi-user.target.wants/pinna-settings")
    wanted += ("multi-user.target.wants/ssh", "sysinit.target.wants/pinna-identity")
    assert not [name for name in wanted if f"etc/systemd/system/{name}.service" not in entries]
    assert not [name for name in entries if name.endswith("/pinna-settled.service")]
    preset = text(root, "etc/systemd/system-preset/00-pinna.preset")
    assert [line for line in preset.splitlines() if not line.startswith("#")] == ["disable pinna-*"]


def test_no_two_devices_share_an_identity_and_nothing_is_left_of_the_build(
    root: Path, entries: dict[str, tarfile.TarInfo]
) -> None:
    assert text(root, "etc/machine-id") == "uninitialized\n"
    assert text(root, "etc/hostname") == "pinna\n"
    left = ("etc/ssh/ssh_host_", "var/lib/pinna-image", "usr/sbin/policy-rc.d", "root/.ssh", "root/.ansible")
    assert not [name for name in entries if name.startswith(left)]
    assert not [name for name in entries if name.startswith(f"{MODULES}/")]


def test_an_image_comes_of_it_for_every_board(root: Path, tmp_path: Path) -> None:
    boards = choose("", RASPIOS_BOARDS)
    made = assemble(tmp_path / "pinna.img", root, boards, Wishes(), tools(), source_date_epoch())
    assert made.layout.disk_id == layout.DISK_ID
    assert look(root).init_format == "cloudinit-rpi"
