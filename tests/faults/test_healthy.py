"""Healthy machines of other kinds: no false alarm. More kinds are in tests/unit/doctor, from snapshots."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.faults.appliance import Appliance
from tests.faults.breaking import PULSEAUDIO, SHARE, holder
from tests.virtual_pi.acoustics import tone
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity

UPTIME = "$(cut -d. -f1 /proc/uptime)"


@dataclass(frozen=True)
class Variant:
    name: str
    begins: str
    ends: str
    user: str = ""


VARIANTS = (
    Variant("no-docker", "systemctl stop docker.socket docker", "systemctl start docker"),
    Variant("root-listens", "true", "true", user="root"),
    Variant(
        "somebody-without-sudo",
        "useradd --create-home --groups audio guest",
        "userdel --remove guest 2>&1",
        user="guest",
    ),
    Variant("somebody-else-records", holder("other", SHARE), "systemctl stop other"),
    Variant(
        "definitions-of-ones-own",
        "printf 'pcm.mine {\\n type plug\\n slave.pcm shared_mic\\n}\\n' >/etc/alsa/conf.d/60-mine.conf",
        "rm /etc/alsa/conf.d/60-mine.conf",
    ),
    Variant("another-forbidden-driver", "echo blacklist snd_hda_intel >/etc/modprobe.d/60-hda.conf", "true"),
    Variant("objects-of-others", "ipcmk -M 4096 -p 0600; ipcmk -S 1 -p 0600", "true"),
    Variant("no-hotplug-rule-needed", "udevadm control --reload", "true"),
    Variant("no-log-for-us", "dmesg --clear", "true"),
    Variant("two-cards", "modprobe snd-aloop id=Loopback", "rmmod snd_aloop"),
    Variant(
        "a-sound-server-off-the-card",
        f"{PULSEAUDIO}; systemd-run -q --collect --unit elsewhere pulseaudio -n --daemonize=no "
        "--exit-idle-time=-1 --load=module-null-sink; until pgrep -x pulseaudio; do sleep 0.2; done",
        "systemctl stop elsewhere",
    ),
    Variant(
        "pipewire-off-the-card",
        "apt-get update && apt-get install -y --no-install-recommends pipewire-bin; mkdir -p /run/elsewhere; "
        "systemd-run -q --collect --unit elsewhere --setenv=XDG_RUNTIME_DIR=/run/elsewhere pipewire; "
        "until [ -S /run/elsewhere/pipewire-0 ]; do sleep 0.2; done",
        "systemctl stop elsewhere",
    ),
    Variant(
        "another-language",
        "apt-get update && apt-get install -y --no-install-recommends locales; "
        "localedef -i de_DE -f UTF-8 de_DE.UTF-8; echo LC_ALL=de_DE.UTF-8 >>/etc/environment",
        "sed -i /LC_ALL/d /etc/environment",
    ),
    Variant(
        "a-wrong-clock",
        f"systemctl stop systemd-timesyncd; echo $(($(date +%s) - {UPTIME})) >/run/up; date -s 2020-01-01",
        f"date -s @$(($(cat /run/up) + {UPTIME})); systemctl start systemd-timesyncd",
    ),
    Variant("no-python-of-ours", "mv /opt/pinna/current /var/tmp", "mv /var/tmp/current /opt/pinna"),
)


@pytest.fixture
def quiet(appliance: Appliance) -> Appliance:
    appliance.run("systemctl stop pinna-agent")
    return appliance


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_no_false_alarm(quiet: Appliance, variant: Variant) -> None:
    quiet.run(variant.begins)
    try:
        quiet.until_healed(*(["--user", variant.user] if variant.user else []), agent=False)
    finally:
        quiet.run(variant.ends, check=False)


@pytest.mark.parametrize(
    "identity",
    [
        Identity(microphone_channels=2),
        Identity(microphone_rates=(16_000, 48_000)),
        Identity(microphone_rates=(44_100,)),
        Identity(serial="0000"),
        Identity(speaker_channels=0),
    ],
    ids=["stereo", "two-rates", "44.1-kHz", "another-serial", "no-speaker"],
)
def test_another_microphone(quiet: Appliance, identity: Identity) -> None:
    before = quiet.pi.microphone
    quiet.unplug()
    quiet.pi.microphone = Sh04(identity, source=tone(440.0))
    try:
        quiet.plug()
        quiet.until_healed(agent=False)
    finally:
        quiet.unplug()
        quiet.pi.microphone = before
        quiet.plug()
    quiet.until_healed(agent=False)
