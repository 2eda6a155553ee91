"""The system that is flashed: nothing shared between devices, nothing open, nothing left of the build."""

from __future__ import annotations

import fnmatch
import re
import tarfile
from pathlib import Path

import pytest
from image.boards import BOARDS, check

from image import tree

pytestmark = pytest.mark.timeout(7200)  # the first of these tests may have to build it


@pytest.fixture(scope="module")
def entries(root: Path) -> dict[str, tarfile.TarInfo]:
    return dict(tree.members(root))


def text(root: Path, name: str) -> str:
    return tree.read(root, name).decode()


def test_every_supported_board_can_start(root: Path) -> None:
    check(BOARDS.values(), tree.boot_files(root))


def test_the_compute_module_s_device_tree_is_named(root: Path) -> None:
    """Its firmware looked for the Pi 4's where kernels have upstream's names (raspberrypi/firmware#1660)."""
    config = next(item.content.decode() for item in tree.boot_files(root) if str(item.path) == "config.txt")
    assert "[cm4]\ndevice_tree=bcm2711-rpi-cm4-io.dtb\n[all]" in config


def test_no_two_devices_share_a_secret_or_an_identity(
    root: Path, entries: dict[str, tarfile.TarInfo]
) -> None:
    assert text(root, "etc/machine-id") == "uninitialized\n"
    assert text(root, "etc/hostname") == "pinna\n"
    gone = r"etc/ssh/ssh_host_.*|var/lib/dbus/machine-id|var/lib/systemd/random-seed"
    gone += r"|root/\.ssh/.*|etc/ssl/private/.+"
    assert not [name for name in entries if re.fullmatch(gone, name)]
    assert tree.read(root, "etc/pinna/hub_token").strip() == b""


def test_nobody_has_a_password(root: Path) -> None:
    fields = [line.split(":") for line in text(root, "etc/shadow").splitlines()]
    assert fields
    assert not [account[0] for account in fields if not account[1].startswith(("!", "*"))]


def test_what_dpkg_leaves_out_of_updates_is_not_there(
    root: Path, entries: dict[str, tarfile.TarInfo]
) -> None:
    """A rule on a later line wins, as for dpkg."""
    rules = [
        line.partition("=") for line in text(root, "etc/dpkg/dpkg.cfg.d/pinna").splitlines() if "=" in line
    ]
    assert len(rules) > 10

    def kept(name: str) -> bool:
        matching = [kind for kind, _, pattern in rules if fnmatch.fnmatchcase(f"/{name}", pattern)]
        return not matching or matching[-1] == "path-include"

    left = [name for name, entry in entries.items() if entry.isfile() and not kept(name)]
    assert left == ["usr/share/info/dir"], "which no package brings: a trigger makes it"


def test_every_driver_that_the_kernel_knows_of_is_there(
    root: Path, entries: dict[str, tarfile.TarInfo]
) -> None:
    (listed,) = [name for name in entries if re.fullmatch(r"usr/lib/modules/[^/]+/modules\.dep", name)]
    folder = Path(listed).parent
    known = {str(folder / line.partition(":")[0]) for line in text(root, listed).splitlines()}
    assert str(folder / "kernel/sound/usb/snd-usb-audio.ko.xz") in known
    assert known <= set(entries)


def test_nothing_is_left_of_the_build(root: Path, entries: dict[str, tarfile.TarInfo]) -> None:
    left = (
        r"usr/sbin/policy-rc\.d|var/lib/pinna-image.*|var/lib/apt/lists/[^/]*(Packages|Release).*"
        r"|var/cache/apt/.*\.(bin|deb)|root/\.(ansible|cache).*|tmp/.+|var/tmp/.+|run/.+|var/log/.*\.log"
        r"|etc/(passwd|shadow|group|gshadow)-|var/lib/dpkg/.*-old|var/lib/cloud/.+|.*/__pycache__/.*\.pyc\.\d+"
    )
    assert not [name for name in entries if re.fullmatch(left, name)]
    assert not [name for name, entry in entries.items() if entry.isdev()]
    # The playbook ran with the system's own Python: there never was a builder's.
    assert not [
        name for name in entries if re.search(r"x86_64|amd64", name) and name.endswith((".so", ".whl"))
    ]


def test_disks_are_mounted_by_label_and_grow(root: Path) -> None:
    lines = [line.split() for line in text(root, "etc/fstab").splitlines() if not line.startswith("#")]
    found = {line[1]: line for line in lines}
    assert found["/"][0] == "LABEL=PINNA"
    assert "x-systemd.growfs" in found["/"][3]
    assert found["/boot/firmware"][0] == "LABEL=CIDATA"
    assert {"nofail", "umask=0077"} <= set(found["/boot/firmware"][3].split(","))


def test_a_kernel_update_will_describe_the_card_not_the_builder(root: Path) -> None:
    defaults = text(root, "etc/default/raspi-firmware")
    assert {"CMA=0", "ROOTPART=LABEL=PINNA"} <= set(defaults.splitlines())
    assert "/etc/default/raspi-firmware\n/etc/default/raspi-firmware.debian\n" in text(
        root, "var/lib/dpkg/diversions"
    )
    kernels = [item.path.name for item in tree.boot_files(root) if item.path.name.startswith("vmlinuz-")]
    assert len(kernels) == 1


def test_the_initramfs_finds_the_root_on_each_board_and_carries_little_else(root: Path) -> None:
    (initramfs,) = (
        item.content for item in tree.boot_files(root) if item.path.name.startswith("initrd.img-")
    )
    needed = ("mmc/host/bcm2835", "mmc/host/sdhci-iproc", "fs/ext4/ext4")
    needed += ("host/xhci-pci", "dwc2/dwc2", "storage/usb-storage", "storage/uas")
    assert not [name for name in needed if f"{name}.ko".encode() not in initramfs]
    assert len(initramfs) < 24 << 20


def test_documentation_is_left_out_but_for_licences(entries: dict[str, tarfile.TarInfo]) -> None:
    documents = [name for name in entries if re.match(r"usr/share/(doc|man)/.", name)]
    files = [name for name in documents if not entries[name].isdir() and not entries[name].issym()]
    assert [name for name in files if name.endswith("/copyright")]
    assert not [name for name in files if not name.endswith("/copyright")]


def test_the_watchdog_is_within_what_the_chip_can_count(root: Path) -> None:
    values = re.findall(
        r"(?m)^(\w+WatchdogSec)=(\d+)s$", text(root, "etc/systemd/system.conf.d/pinna-watchdog.conf")
    )
    assert dict(values) == {"RuntimeWatchdogSec": "15", "RebootWatchdogSec": "15"}


def test_only_what_is_declared_comes_in(root: Path) -> None:
    rules = text(root, "etc/nftables-pinna.conf")
    assert "policy drop" in rules
    assert re.findall(r"(tcp|udp) dport \{ ([^}]*) \}", rules) == [("tcp", "22"), ("udp", "5353")]
    ssh = text(root, "etc/ssh/sshd_config.d/00-pinna.conf")
    assert "PasswordAuthentication no" in ssh
    assert "PermitRootLogin prohibit-password" in ssh


@pytest.mark.parametrize(
    "unit",
    [
        "multi-user.target.wants/pinna-agent.service",
        "multi-user.target.wants/pinna-settings.service",
        "multi-user.target.wants/ssh.service",
        "multi-user.target.wants/docker.service",
        "sysinit.target.wants/pinna-firewall.service",
        "sysinit.target.wants/pinna-identity.service",
        "cloud-init.target.wants/pinna-settled.service",
    ],
)
def test_it_starts_by_itself(unit: str, entries: dict[str, tarfile.TarInfo]) -> None:
    assert f"etc/systemd/system/{unit}" in entries


def test_the_first_boot_asks_nothing_and_enables_nothing(
    root: Path, entries: dict[str, tarfile.TarInfo]
) -> None:
    assert entries["etc/systemd/system/systemd-firstboot.service"].linkname == "/dev/null"
    assert "disable *" in text(root, "etc/systemd/system-preset/00-pinna.preset").splitlines()


def test_packages_with_setuid_programs_keep_them(entries: dict[str, tarfile.TarInfo]) -> None:
    assert entries["usr/bin/sudo"].mode & 0o7777 == 0o4755
    assert entries["usr/bin/su"].mode & 0o7777 == 0o4755
