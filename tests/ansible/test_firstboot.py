"""An image's first start: the name, the owner's settings, and what the owner is told of them."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from tests.support.loading import load

firstboot = load("firstboot/files/firstboot.py")
PINNA = Path(sys.executable).with_name("pinna")
IMAGE = 'device_id = "pinna"\n\n[audio]\ninput = "shared_mic"\n\n[hub]\nurl = "http://hub.local:8080"\n'


@pytest.fixture
def device(tmp_path: Path) -> firstboot.Device:
    """The parts of a flashed card that firstboot reads, with the real agent to judge the configuration."""
    files = {
        "etc/hostname": "pinna\n",
        "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 pinna\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/pinna/pinna.toml": IMAGE,
        "proc/device-tree/serial-number": "10000000a1b2c3d4\0",
        "boot/firmware/cmdline.txt": "console=tty0 root=LABEL=PINNA rw rootwait\n",
        "usr/lib/pinna/cmdline.txt": "console=tty0 root=LABEL=PINNA rw rootwait\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "opt/pinna/current/bin").mkdir(parents=True)
    (tmp_path / "opt/pinna/current/bin/pinna").symlink_to(PINNA)
    return firstboot.Device(tmp_path)


def configured(device: firstboot.Device) -> dict[str, object]:
    return tomllib.loads(device.configuration.read_text())


class TestName:
    def test_it_is_of_the_serial_number_and_stays(self, device: firstboot.Device) -> None:
        firstboot.give_name(device)
        assert firstboot.hostname(device) == "pinna-a1b2c3d4"
        hosts = (device.root / "etc/hosts").read_text()
        assert hosts == "127.0.0.1 localhost\n127.0.1.1 pinna-a1b2c3d4\n"
        (device.root / "proc/device-tree/serial-number").write_text("10000000ffffffff\0")
        firstboot.give_name(device)
        assert firstboot.hostname(device) == "pinna-a1b2c3d4"

    def test_imagers_name_stays(self, device: firstboot.Device) -> None:
        (device.root / "etc/hostname").write_text("kitchen\n")
        firstboot.give_name(device)
        assert firstboot.hostname(device) == "kitchen"

    def test_the_prefix_is_the_owners(self, device: firstboot.Device) -> None:
        device.wishes.write_text('name_prefix = "ear"\n')
        firstboot.give_name(device)
        assert firstboot.hostname(device) == "ear-a1b2c3d4"

    @pytest.mark.parametrize("wrong", ["name_prefix = 7\n", 'name_prefix = "a b"\n', "name_prefix = \n"])
    def test_a_wrong_prefix_keeps_no_device_from_a_name(self, device: firstboot.Device, wrong: str) -> None:
        device.wishes.write_text(wrong)
        firstboot.give_name(device)
        assert firstboot.hostname(device) == "pinna-a1b2c3d4"

    def test_without_a_serial_number_it_is_of_the_network_card(self, device: firstboot.Device) -> None:
        (device.root / "proc/device-tree/serial-number").write_text("0000000000000000\0")
        for card, address in (("eth0", "52:54:00:12:34:56"), ("lo", "00:00:00:00:00:00")):
            folder = device.root / "sys/class/net" / card
            folder.mkdir(parents=True)
            (folder / "address").write_text(f"{address}\n")
        (device.root / "sys/class/net/eth0/device").mkdir()
        assert firstboot.serial(device) == "00123456"

    def test_without_either_it_is_of_the_machine_id(self, device: firstboot.Device) -> None:
        (device.root / "proc/device-tree/serial-number").unlink()
        first = firstboot.serial(device)
        assert first == firstboot.serial(device)
        (device.root / "etc/machine-id").write_text("f" * 32)
        assert firstboot.serial(device) != first


class TestSettings:
    def test_without_a_file_the_image_s_hold_and_the_name_is_the_device_s(
        self, device: firstboot.Device
    ) -> None:
        (device.root / "etc/hostname").write_text("kitchen\n")
        firstboot.settings(device)
        assert configured(device) == {**tomllib.loads(IMAGE), "device_id": "kitchen"}
        assert "All that is here has been put in force" in device.status.read_text()
        assert "kitchen" in device.status.read_text()

    def test_what_the_owner_says_wins(self, device: firstboot.Device) -> None:
        hub = '[hub]\nurl = "https://other:1"\ntoken_file = "secret.txt"\n'
        device.wishes.write_text(
            'device_id = "hall"\nname_prefix = "ear"\n' + hub + "[audio]\nlatency_ms = 120\n"
        )
        (device.boot / "secret.txt").write_text("s3cret\r\n")
        firstboot.settings(device)
        made = configured(device)
        assert made["device_id"] == "hall"
        assert made["audio"] == {"input": "shared_mic", "latency_ms": 120}
        assert made["hub"] == {"url": "https://other:1", "token_file": firstboot.CREDENTIAL}
        assert device.token.read_text() == "s3cret\n"
        assert device.token.stat().st_mode & 0o777 == 0o600
        assert "s3cret" not in device.configuration.read_text() + device.status.read_text()

    def test_what_was_written_since_stays_until_the_owner_changes_something(
        self, device: firstboot.Device
    ) -> None:
        device.wishes.write_text('device_id = "hall"\n')
        firstboot.settings(device)
        device.configuration.write_text('device_id = "by-a-playbook"\n')
        firstboot.settings(device)
        assert configured(device) == {"device_id": "by-a-playbook"}
        device.wishes.write_text('device_id = "attic"\n')
        firstboot.settings(device)
        assert configured(device)["device_id"] == "attic"

    @pytest.mark.parametrize(
        ("wishes", "told"),
        [
            ("[hub]\nulr = 1\n", ["pinna.toml", "no key 'hub.ulr'", "Did you mean hub.url?"]),
            ("[hubb]\nurl = 1\n", ["no table 'hubb'", "Did you mean hub?"]),
            ("[hub\n", ["not valid TOML", "line 1"]),
            ('[hub]\nurl = "nowhere"\n', ["hub.url is 'nowhere'"]),
            ("audio = 5\n", ["audio is 5"]),
            ("when = 2026-01-01\n", ["no key 'when'"]),
            ('[hub]\ntoken_file = "../../etc/shadow"\n', ["must be the name of a file beside it"]),
            ('[hub]\ntoken_file = "none"\n', ["the file none", "Put it beside pinna.toml"]),
            ('[microphone]\nname = "x"\n', ["no key microphone.name", "serial, port, usb_id"]),
            ("[microphone]\nserial = 123\n", ["microphone.serial", "quotes"]),
            ('[microphone]\nserial = "x\\", RUN+=\\"/bin/sh"\n', ["microphone.serial"]),
            ('[microphone]\nport = "1-1"\nserial = "1"\n', ["Give one of them"]),
            ("microphone = 1\n", ["must be a table"]),
        ],
    )
    def test_what_is_wrong_changes_nothing_and_is_told_where_the_owner_looks(
        self, device: firstboot.Device, wishes: str, told: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        device.wishes.write_text(wishes)
        firstboot.settings(device)
        console, status = capsys.readouterr().out, device.status.read_text()
        for words in told:
            assert words in console
            assert words in status
        assert "/tmp" not in status
        assert device.configuration.read_text() == IMAGE
        assert not device.microphone.exists()
        device.wishes.write_text("")
        firstboot.settings(device)
        assert "All that is here has been put in force" in device.status.read_text()

    def test_bytes_that_are_no_text_are_told(self, device: firstboot.Device) -> None:
        device.wishes.write_bytes(b"\xff\xfe[hub]")
        firstboot.settings(device)
        assert "not UTF-8" in device.status.read_text()

    def test_a_boot_partition_that_is_not_there_stops_nothing(self, device: firstboot.Device) -> None:
        for file in device.boot.iterdir():
            file.unlink()
        device.boot.rmdir()
        device.boot.touch()
        firstboot.settings(device)
        assert device.boot.is_file()

    def test_a_boot_partition_that_is_not_mounted_leaves_what_was_in_force(
        self, device: firstboot.Device, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (device.root / "etc/hostname").write_text("kitchen\n")
        mounted = (device.boot / "cmdline.txt").read_text()
        (device.boot / "cmdline.txt").unlink()
        firstboot.settings(device)
        assert configured(device)["device_id"] == "kitchen"
        firstboot.settled(device)
        assert capsys.readouterr().out.count("boot-firmware.mount") == 2
        assert list(device.boot.iterdir()) == []
        (device.boot / "cmdline.txt").write_text(mounted)
        device.wishes.write_text('device_id = "hall"\n')
        firstboot.settings(device)
        (device.boot / "cmdline.txt").unlink()
        device.wishes.unlink()
        firstboot.settings(device)
        assert configured(device)["device_id"] == "hall"

    @pytest.mark.parametrize(
        ("wishes", "match"),
        [
            ('serial = "0123"', 'ATTRS{serial}=="0123"'),
            ('port = "1-1.2"', 'KERNELS=="1-1.2:*"'),
            ('usb_id = "4C4A:4155"', 'ATTRS{idVendor}=="4c4a", ATTRS{idProduct}=="4155"'),
        ],
    )
    def test_the_microphone_is_matched_by_rule(
        self, device: firstboot.Device, wishes: str, match: str
    ) -> None:
        device.wishes.write_text(f"[microphone]\n{wishes}\n")
        firstboot.settings(device)
        refusing, taking = device.microphone.read_text().splitlines()[1:]
        assert refusing.endswith('ENV{PINNA_NOT_MIC}="1"')
        assert f'{match}, ENV{{PINNA_NOT_MIC}}=""' in taking
        device.wishes.write_text("")
        firstboot.settings(device)
        assert device.microphone.read_text() == ""


def test_what_imager_adds_to_the_command_line_survives_kernel_updates(device: firstboot.Device) -> None:
    extra = device.root / "etc/default/raspi-extra-cmdline"
    firstboot.keep_command_line(device)
    assert not extra.exists()
    cmdline = device.boot / "cmdline.txt"
    cmdline.write_text(cmdline.read_text().strip() + " cfg80211.ieee80211_regdom=DE ds=nocloud;i=rpi\n")
    firstboot.keep_command_line(device)
    assert extra.read_text() == "cfg80211.ieee80211_regdom=DE ds=nocloud;i=rpi\n"


def test_raspberry_pi_os_grows_its_own_card(
    device: firstboot.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(device.root))  # there is nobody to ask
    with pytest.raises(firstboot.TroubleError, match="findmnt cannot be run"):
        firstboot.grow(device)
    (device.root / "etc/rpi-issue").write_text("Raspberry Pi reference 2026-10-06\n")
    firstboot.grow(device)


def test_a_write_leaves_the_old_file_or_the_new_one(device: firstboot.Device) -> None:
    file = device.root / "some/file"
    firstboot.write(file, "one", 0o600)
    before = file.stat().st_ino
    firstboot.write(file, "one", 0o600)
    assert file.stat().st_ino == before  # a card wears out
    firstboot.write(file, "two", 0o600)
    assert file.read_text() == "two"
    assert [path.name for path in file.parent.iterdir()] == ["file"]
