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


def removed(package: str) -> str:
    """Take away a Debian package that others need."""
    return f"dpkg --force-depends --remove {package}"


def kept_aside(*files: str) -> tuple[str, str]:
    """Shell to keep files aside, and to put them back with their owners and modes."""
    names = " ".join(files)
    return f"tar -C / -cf /var/tmp/aside.tar {names}", "tar -C / -xpf /var/tmp/aside.tar"


KEEP_GRAPH, GRAPH_BACK = kept_aside("etc/asound.conf", "etc/alsa/conf.d/40-pinna.conf")
KEEP_SETTINGS, SETTINGS_BACK = kept_aside("etc/pinna/pinna.toml")
KEEP_ALL_OF_PINNA, PINNA_BACK = kept_aside(
    "etc/asound.conf", "etc/alsa/conf.d/40-pinna.conf", "etc/udev/rules.d/70-pinna-audio.rules"
)
RESTART = "systemctl restart --no-block pinna-agent"
FAILING = "until systemctl show -p SubState pinna-agent | grep -q auto; do sleep 0.5; done"
PULSEAUDIO = "apt-get update && apt-get install -y --no-install-recommends pulseaudio"
DROP_IN = "/etc/systemd/system/pinna-agent.service.d"
LIBRARIES = "/usr/lib/aarch64-linux-gnu"
PORTAUDIO = f"$(readlink -f {LIBRARIES}/libportaudio.so.2)"
DRIVER = "/lib/modules/$(uname -r)/kernel/sound/usb/snd-usb-audio.ko.xz"
PYTHON = "$(python3 -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
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
    Fault(
        "driver-missing",
        f"mv {DRIVER} /var/tmp; rmmod snd_usb_audio",
        by_hand=f"mv /var/tmp/snd-usb-audio.ko.xz {DRIVER}; modprobe snd_usb_audio",
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
    Fault("libasound-missing", removed("libasound2t64")),
    Fault("alsa-conf-missing", "rm /usr/share/alsa/alsa.conf"),
    Fault(
        "alsa-plugin-missing",
        f"{KEEP_ALL_OF_PINNA}; rm /etc/asound.conf /etc/alsa/conf.d/40-pinna.conf "
        "/etc/udev/rules.d/70-pinna-audio.rules; "
        f"echo 'pcm.!default {{ type pulse }}' >{EXTRA}; {removed('libasound2-plugins')}",
        by_hand=f"rm {EXTRA}; {PINNA_BACK}",  # with the plugin, but without its server
        restores=f"rm -f {EXTRA}; {PINNA_BACK}",
    ),
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
        "sound-server-holds-microphone",
        f"{PULSEAUDIO}; "
        + holder(
            "pulse",
            "pulseaudio -n --daemonize=no --exit-idle-time=-1 --load='module-alsa-source device=hw:mic'",
        ),
    ),
    Fault(
        "microphone-does-not-open",
        f"{KEEP_GRAPH}; sed -i 's/ipc_gid audio/ipc_gid nobodys/' /etc/asound.conf",
        by_hand=GRAPH_BACK,
    ),
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
    Fault("portaudio-missing", removed("libportaudio2")),
    Fault(
        "portaudio-crashes",
        f"cp -p {PORTAUDIO} /var/tmp/portaudio; truncate -s 40960 {PORTAUDIO}",  # as after a power cut
        by_hand=f"cp -p /var/tmp/portaudio {PORTAUDIO}",
    ),
    Fault(
        "pyaudio-of-another-python",
        f"mkdir -p {PYTHON}/pyaudio; echo 'import pyaudio._portaudio' >{PYTHON}/pyaudio/__init__.py; "
        f": >{PYTHON}/pyaudio/_portaudio.cpython-311-aarch64-linux-gnu.so",
        by_hand=f"rm -r {PYTHON}/pyaudio",
    ),
    Fault("agent-stopped", "systemctl disable -q --now pinna-agent", agent=True),
    Fault(
        "agent-configuration",
        f"{KEEP_SETTINGS}; echo 'surprise = 1' >>/etc/pinna/pinna.toml; {RESTART}; {FAILING}",
        by_hand=f"{SETTINGS_BACK}; {RESTART}",
        agent=True,
    ),
    Fault(
        "agent-fails",
        f"mkdir {DROP_IN}; printf '[Service]\nExecStart=\nExecStart=/bin/false\n' >{DROP_IN}/fault.conf; "
        f"systemctl daemon-reload; {RESTART}; {FAILING}",
        by_hand=f"rm -r {DROP_IN}; systemctl daemon-reload; {RESTART}",
        agent=True,
    ),
    Fault(
        "agent-unwell",
        KEEP_SETTINGS + """; sed -i 's#^mode = .*#mode = "button"\\ngpio_chip = "/dev/gpiochip9"#' """
        f"/etc/pinna/pinna.toml; {RESTART}",
        by_hand=f"{SETTINGS_BACK}; {RESTART}",
        agent=True,
    ),
    Fault("agent-silent", "kill -STOP $(systemctl show -p MainPID --value pinna-agent)", agent=True),
    Fault(
        "hub-name-unknown",
        f"{KEEP_SETTINGS}; "
        "sed -i 's#^url = .*#url = \"http://nowhere.invalid:8080\"#' /etc/pinna/pinna.toml; "
        "systemctl restart pinna-agent",
        by_hand=f"{SETTINGS_BACK}; {RESTART}",
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
    Fault(
        "hub-no-session",
        "nft add table inet fault; nft add chain inet fault out '{ type filter hook output priority 0; }'; "
        "nft add rule inet fault out udp dport 1024-65535 drop; systemctl restart pinna-agent",
        by_hand="nft delete table inet fault",
        agent=True,
    ),
)

FROM_SNAPSHOTS = {
    "undervoltage": "the board's sensor is not emulated",
    "usb-overcurrent": "no emulated port measures a current",
    "rate-unsupported": "alsa-lib moves the rate to the nearest that the virtual microphone has",
    "channels-unsupported": "alsa-lib moves the count to the nearest that the virtual microphone has",
    "libasound-differs": "Debian 12's libasound, and 13's of 32 bits, do share with 13's, as was seen",
    "portaudio-sees-nothing": "somebody would have to take the card between ALSA's look and PortAudio's",
    "portaudio-not-initialized": "a program's own error, which no machine shows",
}
"""Causes that no test here makes, and why; tests/unit/doctor judges them from snapshots."""
