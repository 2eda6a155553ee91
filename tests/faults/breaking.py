"""How each fault is made, and what its printed cure leaves to a person's hands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.appliance import Appliance

Hands = Callable[[Appliance], None]

EXTRA = "/etc/alsa/conf.d/60-fault.conf"
USB = "/sys/bus/usb/devices/$(basename $(readlink -f /sys/class/sound/card*/device/..))"
HOLD = "arecord -q -D hw:mic -f S16_LE -r 48000 -c 1 --period-size=4800 --buffer-size=48000 /dev/null"
SHARE = "arecord -q -D shared_mic -f S16_LE -r 48000 -c 1 /dev/null"


@dataclass(frozen=True)
class Fault:
    """`breaks` and the others are shell.

    After the cure's commands comes `by_hand`, in place of what the cure asks of a person. `restores` runs
    however it went; the healing must not need it.

    Without `agent`, the agent is stopped meanwhile: it would hold the card, and an emulated processor.
    """

    cause: str
    breaks: str
    by_hand: str = ""
    restores: str = ""
    user: str = ""
    agent: bool = False


def holder(unit: str, command: str) -> str:
    """Run `command` as a service; goes on when the card runs."""
    until = "until grep -q RUNNING /proc/asound/card*/pcm0c/sub0/status; do sleep 0.2; done"
    return f"systemd-run -q --collect --unit {unit} {command}; {until}"


TESTER = "useradd --create-home --shell /bin/sh {} tester"
NO_TESTER = "userdel --remove tester 2>&1"

FAULTS = (
    Fault("usb-deauthorized", f"echo 0 >$(readlink -f {USB})/authorized"),
    Fault("usb-autosuspend", f"echo auto >$(readlink -f {USB})/power/control"),
    Fault(
        "driver-blacklisted",
        "echo 'install snd_usb_audio /bin/false' >/etc/modprobe.d/60-fault.conf; rmmod snd_usb_audio",
        restores="rm -f /etc/modprobe.d/60-fault.conf; modprobe snd_usb_audio",
    ),
    Fault("driver-not-loaded", "rmmod snd_usb_audio", restores="modprobe snd_usb_audio"),
    Fault(
        "driver-unbound",
        "cd /sys/bus/usb/drivers/snd-usb-audio; for i in *:*; do basename $i >unbind; done",
    ),
    Fault("card-not-named", "echo -n other >/sys/class/sound/card0/id"),
    Fault(
        "naming-rule-missing",
        "mv /etc/udev/rules.d/70-pinna-audio.rules /var/tmp; udevadm control --reload; "
        "echo -n other >/sys/class/sound/card0/id",
        by_hand="mv /var/tmp/70-pinna-audio.rules /etc/udev/rules.d; udevadm control --reload; "
        "udevadm trigger --action=change --settle --subsystem-match=sound",
    ),
    Fault(
        "card-number-changed",
        f"printf 'pcm.mine {{\\n type hw\\n card 7\\n}}\\n' >{EXTRA}",
        restores=f"rm -f {EXTRA}",
    ),
    Fault("asound-conf-missing", "mv /etc/asound.conf /var/tmp", by_hand="mv /var/tmp/asound.conf /etc"),
    Fault("alsa-conf-is-a-folder", f"mkdir {EXTRA}", restores=f"rm -rf {EXTRA}"),
    Fault("alsa-conf-unreadable", "chmod 0600 /etc/asound.conf"),
    Fault("alsa-syntax-error", f"echo 'pcm.x {{' >{EXTRA}", restores=f"rm -f {EXTRA} {EXTRA}.broken"),
    Fault(
        "pcm-redefined",
        f"{TESTER.format('--groups audio')}; echo 'pcm.!shared_mic {{ type null }}' >~tester/.asoundrc",
        restores=NO_TESTER,
        user="tester",
    ),
    Fault("ipc-perm-invalid", "sed -i 's/ipc_perm 0660/ipc_perm 660/' /etc/asound.conf"),
    Fault("device-nodes-missing", "rm /dev/snd/controlC0"),
    Fault("user-not-in-audio", TESTER.format(""), restores=NO_TESTER, user="tester"),
    Fault("node-permissions", "chgrp root /dev/snd/*C*"),
    Fault("microphone-held", holder("thief", HOLD)),
    Fault(
        "ipc-perm-missing",
        f"{TESTER.format('--groups audio')}; "
        "sed -i -E '/ipc_perm|ipc_gid/d' /etc/asound.conf; " + holder("first", SHARE),
        restores=f"systemctl stop first; {NO_TESTER}",
        user="tester",
    ),
    Fault(
        "stale-ipc-objects",
        "python3 -c 'import ctypes; c = ctypes.CDLL(None); "
        "[(c.shmget(k, 4096, 0o1600), c.semget(k, 1, 0o1600)) for k in range(20000000, 20000004)]'",
    ),
    Fault(
        "ipc-namespaces-differ",
        holder("elsewhere", f"unshare --ipc {SHARE}"),
        by_hand="systemctl stop elsewhere",
    ),
    Fault("microphone-muted", "amixer -q -c mic sset Mic nocap"),
    Fault("agent-stopped", "systemctl disable -q --now pinna-agent", agent=True),
    Fault(
        "agent-configuration",
        "cp -p /etc/pinna/pinna.toml /var/tmp; echo 'surprise = 1' >>/etc/pinna/pinna.toml; "
        "systemctl restart --no-block pinna-agent; "
        "until systemctl show -p SubState pinna-agent | grep -q auto; do sleep 0.5; done",
        by_hand="cp -p /var/tmp/pinna.toml /etc/pinna; systemctl restart --no-block pinna-agent",
        agent=True,
    ),
    Fault("agent-silent", "kill -STOP $(systemctl show -p MainPID --value pinna-agent)", agent=True),
    Fault(
        "hub-name-unknown",
        "cp -p /etc/pinna/pinna.toml /var/tmp; "
        "sed -i 's#^url = .*#url = \"http://nowhere.invalid:8080\"#' /etc/pinna/pinna.toml; "
        "systemctl restart pinna-agent",
        by_hand="cp -p /var/tmp/pinna.toml /etc/pinna; systemctl restart --no-block pinna-agent",
        agent=True,
    ),
    Fault(
        "hub-unreachable",
        "port=$(sed -nE 's#^url = .*:([0-9]+)\"#\\1#p' /etc/pinna/pinna.toml); nft add table inet fault; "
        "nft add chain inet fault out '{ type filter hook output priority 0; }'; "
        "nft add rule inet fault out tcp dport $port reject with icmpx type host-unreachable; "
        "systemctl restart pinna-agent",
        by_hand="nft delete table inet fault",
        agent=True,
    ),
)
