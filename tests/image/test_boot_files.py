"""The boot partition: what each board starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
from image.boards import BOARDS, check

from image import tree

pytestmark = pytest.mark.timeout(7200)  # the first of these tests may have to build it


def test_every_supported_board_can_start(root: Path) -> None:
    check(BOARDS.values(), tree.boot_files(root))


def test_the_compute_module_s_device_tree_is_named(root: Path) -> None:
    """Its firmware looked for the Pi 4's where kernels have upstream's names (raspberrypi/firmware#1660)."""
    config = next(item.content.decode() for item in tree.boot_files(root) if str(item.path) == "config.txt")
    assert "[cm4]\ndevice_tree=bcm2711-rpi-cm4-io.dtb\n[all]" in config


def test_there_is_one_kernel(root: Path) -> None:
    """Of two, the firmware's hook takes the one whose name sorts last."""
    names = [item.path.name for item in tree.boot_files(root)]
    assert len([name for name in names if name.startswith("vmlinuz-")]) == 1


def test_the_initramfs_finds_the_root_on_each_board_and_carries_little_else(root: Path) -> None:
    (initramfs,) = (
        item.content for item in tree.boot_files(root) if item.path.name.startswith("initrd.img-")
    )
    needed = ("mmc/host/bcm2835", "mmc/host/sdhci-iproc", "fs/ext4/ext4")
    needed += ("host/xhci-pci", "dwc2/dwc2", "storage/usb-storage", "storage/uas")
    assert not [name for name in needed if f"{name}.ko".encode() not in initramfs]
    assert len(initramfs) < 24 << 20
