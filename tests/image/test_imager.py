"""What Raspberry Pi Imager writes on the card, applied when it first starts: name, user, key, and Wi-Fi.

The kernel's own two radios (mac80211_hwsim) hear each other: one is the device's, the other an access point.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from image.filesystems import Image
from tests.fleet.hub import FleetHub
from tests.image.card import card, flashed, write
from tests.support.waiting import eventually
from tests.virtual_pi.boards import Virt
from tests.virtual_pi.machine import Machine

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Tr0BYvZ3nPpB9oQh1iZ5mPp0hWcV1bQ2o3pQb8xkY anna@desk"
USER_DATA = f"""#cloud-config
hostname: studio
manage_etc_hosts: true
timezone: Europe/Berlin
users:
- name: anna
  groups: users,adm,dialout,audio,netdev,video,plugdev,cdrom,games,input,gpio,spi,i2c,render,sudo
  shell: /bin/bash
  lock_passwd: true
  ssh_authorized_keys:
    - {KEY}
  sudo: ALL=(ALL) NOPASSWD:ALL
"""
NETWORK_CONFIG = """network:
  version: 2
  ethernets:
    eth0:
      dhcp4: true
      optional: true
  wifis:
    wlan0:
      dhcp4: true
      regulatory-domain: "DE"
      access-points:
        "Studio of Anna":
          password: "correct horse"
      optional: true
"""
ADDED = "cfg80211.ieee80211_regdom=DE"
ACCESS_POINT = """ctrl_interface=/run/access-point
network={
    ssid="Studio of Anna"
    mode=2
    frequency=2412
    key_mgmt=WPA-PSK
    psk="correct horse"
}
"""


@pytest.fixture(scope="module")
def started(
    image: Image, root: Path, hub: FleetHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    on_card = flashed(image, tmp_path_factory.mktemp("flashed"), hub)
    base, disk, words = card(on_card, root, tmp_path_factory.mktemp("card"))
    for name, text in {
        "user-data": USER_DATA,
        "network-config": NETWORK_CONFIG,
        "cmdline.txt": f"{words} {ADDED}\n",
    }.items():
        write(on_card, name, text)
    words += f" {ADDED} modules-load=mac80211_hwsim"
    with Machine(base, Virt(memory_mb=1024), disk=disk, kernel_arguments=words) as machine:
        machine.start()
        machine.wait_ssh(900)
        machine.run("systemctl is-system-running --wait", check=False, timeout=900)
        yield machine


def test_it_is_called_as_its_owner_wishes(started: Machine) -> None:
    assert started.run("hostname").stdout == "studio\n"
    assert "studio" in started.run("cat /etc/hosts").stdout
    assert "studio" in started.run("cat /boot/firmware/pinna-status.txt").stdout
    assert "Europe/Berlin" in started.run("readlink -f /etc/localtime").stdout


def test_its_owner_may_log_in_with_the_key_and_be_root(started: Machine) -> None:
    assert KEY in started.run("cat ~anna/.ssh/authorized_keys").stdout
    assert {"audio", "sudo"} <= set(started.run("id -nG anna").stdout.split())
    assert started.run("su anna -c 'sudo -n id -un'").stdout == "root\n"


def test_nothing_failed_and_cloud_init_is_off(started: Machine) -> None:
    assert started.run("systemctl --failed --no-legend --plain").stdout == ""
    started.run("test -e /etc/cloud/cloud-init.disabled")


def test_what_was_added_to_the_command_line_outlives_kernels(started: Machine) -> None:
    assert started.run("cat /etc/default/raspi-extra-cmdline").stdout.split() == [ADDED]


def test_it_joins_the_wireless_network(started: Machine) -> None:
    started.run(f"cat >/run/access-point.conf <<'END'\n{ACCESS_POINT}END")
    started.run("wpa_supplicant -B -i wlan1 -c /run/access-point.conf")

    def joined() -> bool:
        return "wpa_state=COMPLETED" in started.run("wpa_cli -i wlan0 status", check=False).stdout

    eventually(joined, 180, what="the device is in its owner's Wi-Fi")
