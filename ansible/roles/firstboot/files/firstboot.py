#!/usr/bin/python3
"""An image's way to itself: run by pinna-identity, pinna-settings and pinna-settled.service.

    identity    grow the card's last partition, make ssh host keys, name the device after the board
    settings    put what pinna.toml on the boot partition says in force, when that has changed
    settled     after cloud-init: keep what was added to the kernel's command line, and turn cloud-init off

Standard library only. Whatever is wrong, the device comes up and can be reached: what cannot be done is
told on the console, in the journal, and in pinna-status.txt on the boot partition.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

UNNAMED: Final = "pinna"
"""The name in the image."""

CREDENTIAL: Final = "/run/credentials/pinna-agent.service/hub_token"
MAX_BYTES: Final = 1 << 16
NO_BOOT: Final = (
    "the boot partition, with its pinna.toml, is not there. `systemctl status boot-firmware.mount` says why; "
    "what was in force before stays"
)
MICROPHONE: Final = {
    "serial": r"[A-Za-z0-9 ._:-]{1,126}",
    "port": r"[0-9]+-[0-9]+(\.[0-9]+)*",
    "usb_id": r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}",
}


class TroubleError(Exception):
    """One line for the owner: what is wrong, and the cure."""


class Device:
    """Where things are; `root` is another folder than / in tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.boot = root / "boot/firmware"
        self.status = self.boot / "pinna-status.txt"
        self.wishes = self.boot / "pinna.toml"
        self.state = root / "var/lib/pinna-firstboot"
        self.configuration = root / "etc/pinna/pinna.toml"
        self.token = root / "etc/pinna/hub_token"
        self.microphone = root / "etc/udev/rules.d/69-pinna-microphone.rules"

    def has_boot(self) -> bool:
        """Whether the boot partition is mounted: no Pi starts from one without this file."""
        return (self.boot / "cmdline.txt").is_file()

    def wanted(self) -> dict[str, Any]:
        """What pinna.toml says; nothing if there is none. Raises TroubleError for one that is no TOML."""
        try:
            data = self.wishes.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise TroubleError(f"pinna.toml cannot be read: {error.strerror}. Write it anew") from error
        if len(data) > MAX_BYTES:
            raise TroubleError(
                f"pinna.toml is larger than {MAX_BYTES} bytes. Give settings, not something else"
            )
        try:
            return tomllib.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise TroubleError("pinna.toml is not UTF-8. Save it as UTF-8 text") from error
        except (ValueError, RecursionError) as error:
            raise TroubleError(f"pinna.toml is not valid TOML: {error}. Correct that line") from error


# --- identity -------------------------------------------------------------------------------------


def identity(device: Device) -> None:
    """Each part by itself: one that fails keeps none of the others from being done."""
    troubles = []
    for part in (grow, make_host_keys, give_name):
        try:
            part(device)
        except (TroubleError, OSError) as trouble:
            troubles.append(str(trouble))
    tell(device, "start", troubles)


def grow(device: Device) -> None:
    """The root partition takes the rest of the card; the file system follows by x-systemd.growfs of fstab."""
    if (device.root / "etc/rpi-issue").exists():
        return  # Raspberry Pi OS has done so by itself
    source = ask(["findmnt", "--noheadings", "--output=SOURCE", "/"]).strip()
    partition = re.fullmatch(r"/dev/(?:(mmcblk\d+|nvme\d+n\d+)p|([a-z]+))(\d+)", source)
    if partition is None:
        return  # not a card of ours: a virtual disk without partitions
    disk = f"/dev/{partition[1] or partition[2]}"
    done = subprocess.run(
        ["growpart", disk, partition[3]], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode > 1:  # 1: it has its size already
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise TroubleError(
            f"the root partition of {disk} could not grow: {' '.join(said)}. Is the card sound?"
        )


def make_host_keys(device: Device) -> None:
    """Those that are missing, or that a power cut has left empty."""
    ask(["ssh-keygen", "-A"])
    os.sync()


def give_name(device: Device) -> None:
    """`pinna-` and the end of the serial number, unless the device has been given a name."""
    file = device.root / "etc/hostname"
    if file.read_text().strip() not in ("", UNNAMED):
        return
    try:
        prefix = device.wanted().get("name_prefix", UNNAMED)
    except TroubleError:
        prefix = UNNAMED  # `settings` tells what is wrong
    if not isinstance(prefix, str) or not re.fullmatch(
        r"[A-Za-z0-9]([A-Za-z0-9-]{0,50}[A-Za-z0-9])?", prefix
    ):
        prefix = UNNAMED
    name = f"{prefix}-{serial(device)}"
    write(file, f"{name}\n")
    hosts = device.root / "etc/hosts"
    lines = [line for line in lines_of(hosts) if not line.startswith("127.0.1.1")]
    write(hosts, "\n".join([*lines, f"127.0.1.1 {name}", ""]))
    if device.root == Path("/"):
        with contextlib.suppress(OSError):
            Path("/proc/sys/kernel/hostname").write_text(name)


def serial(device: Device) -> str:
    """Eight characters, the same after each flash: of the board's serial number, else of its network."""
    number = device.root / "proc/device-tree/serial-number"
    with contextlib.suppress(OSError):
        text = re.sub(r"[^0-9a-z]", "", number.read_bytes().decode("ascii", "replace").lower())
        if text.strip("0"):
            return text[-8:].rjust(8, "0")
    for address in sorted(device.root.glob("sys/class/net/*/address")):
        text = re.sub(r"[^0-9a-f]", "", address.read_text())
        if text.strip("0") and (address.parent / "device").exists():
            return text[-8:]
    machine = (device.root / "etc/machine-id").read_text().strip()
    return hashlib.sha256(f"pinna {machine}".encode()).hexdigest()[:8]


# --- settings -------------------------------------------------------------------------------------


def settings(device: Device) -> None:
    """The configuration that the roles left in the image, the device's name, over both what pinna.toml says.

    Only when the wishes or the name have changed: what a playbook or a person has written since stays.
    Nothing changes when anything in it is wrong.
    """
    troubles = []
    applied = device.state / "applied"
    try:
        if not device.has_boot():
            if not applied.exists():
                apply(device, {}, "")  # its name, at least: no two devices may call themselves the same
            raise TroubleError(NO_BOOT)
        wanted = device.wanted()
        token = read_token(device, wanted)
        asked = hashlib.sha256(
            json.dumps([wanted, token, hostname(device)], default=str).encode()
        ).hexdigest()
        if not applied.is_file() or applied.read_text() != asked:
            apply(device, wanted, token)
            write(applied, asked)
    except (TroubleError, OSError) as trouble:
        troubles.append(str(trouble))
    tell(device, "settings", troubles)


def apply(device: Device, wanted: dict[str, Any], token: str) -> None:
    original = device.state / "image.toml"
    if not original.exists():
        write(original, device.configuration.read_text())
    merged = merge({**tomllib.loads(original.read_text()), "device_id": hostname(device)}, agent_keys(wanted))
    if token:
        merged.setdefault("hub", {})["token_file"] = CREDENTIAL
    rule = microphone_rule(wanted.get("microphone", {}))
    check(device, merged)
    write(device.configuration, as_toml(merged), 0o644)
    if token:
        write(device.token, f"{token}\n", 0o600)
    if rule != (device.microphone.read_text() if device.microphone.exists() else ""):
        write(device.microphone, rule)
        if device.root == Path("/"):
            subprocess.run(["udevadm", "control", "--reload"], timeout=60, check=False)
            trigger = ["udevadm", "trigger", "--action=change", "--subsystem-match=sound", "--settle"]
            subprocess.run(trigger, timeout=60, check=False)


def agent_keys(wanted: dict[str, Any]) -> dict[str, Any]:
    """What of pinna.toml is the agent's, which checks it; the rest is ours."""
    given = {key: value for key, value in wanted.items() if key not in ("microphone", "name_prefix")}
    if isinstance(given.get("hub"), dict):
        given["hub"] = {key: value for key, value in given["hub"].items() if key != "token_file"}
    return given


def read_token(device: Device, wanted: dict[str, Any]) -> str:
    """The token in the file that hub.token_file names, beside pinna.toml; empty if none is named."""
    hub = wanted.get("hub", {})
    name = hub.get("token_file", "") if isinstance(hub, dict) else ""
    if not name:
        return ""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise TroubleError(
            "hub.token_file in pinna.toml must be the name of a file beside it, such as hub_token"
        )
    try:
        token = (device.boot / name).read_bytes()[: MAX_BYTES + 1].decode("utf-8-sig", "replace").strip()
    except OSError as error:
        raise TroubleError(
            f"the file {name}, which pinna.toml names, cannot be read: {error.strerror}. "
            "Put it beside pinna.toml"
        ) from error
    if not re.fullmatch(r"[!-~]{1,8192}", token):
        raise TroubleError(f"the file {name} holds no token. Write the token there, alone on one line")
    return token


def microphone_rule(wanted: object) -> str:
    """A udev rule that takes the claim to be the microphone from all cards but one; empty for any card.

    The rule that gives the name, 70-pinna-audio.rules, heeds PINNA_NOT_MIC.
    """
    if not isinstance(wanted, dict):
        raise TroubleError("microphone in pinna.toml must be a table: [microphone]")
    for key, value in wanted.items():
        if key not in MICROPHONE:
            raise TroubleError(f"pinna.toml has no key microphone.{key}. There are {', '.join(MICROPHONE)}")
        if not isinstance(value, str) or not re.fullmatch(MICROPHONE[key], value):
            raise TroubleError(
                f"microphone.{key} in pinna.toml is {value!r}, which is none. "
                "`lsusb -v` shows it; write it in quotes"
            )
    if len(wanted) > 1:
        raise TroubleError(
            f"pinna.toml gives {' and '.join(f'microphone.{key}' for key in wanted)}. Give one of them"
        )
    if not wanted:
        return ""
    ((key, value),) = wanted.items()
    if key == "usb_id":
        vendor, product = value.lower().split(":")
        match = f'ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}"'
    else:
        match = f'KERNELS=="{value}:*"' if key == "port" else f'ATTRS{{serial}}=="{value}"'
    card = 'SUBSYSTEM=="sound", KERNEL=="controlC[0-9]*", SUBSYSTEMS=="usb"'
    return (
        "# From pinna.toml on the boot partition, which says which card is the microphone.\n"
        f'{card}, ENV{{PINNA_NOT_MIC}}="1"\n{card}, {match}, ENV{{PINNA_NOT_MIC}}=""\n'
    )


def check(device: Device, configuration: dict[str, Any]) -> None:
    """Ask the agent whether it takes this configuration. Raises TroubleError with its answer if not."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pinna.toml"
        file.write_text(as_toml(configuration))
        command = [str(device.root / "opt/pinna/current/bin/pinna"), "config", "check", str(file)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PINNA_")}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TroubleError(
                f"the agent cannot be asked about pinna.toml: {error}. Flash the card anew"
            ) from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().removeprefix("pinna: ").removeprefix("error: ")
            # The line numbers are those of the merged file.
            raise TroubleError(re.sub(rf"{re.escape(str(file))}(?: line \d+)?", "pinna.toml", said))


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def as_toml(configuration: dict[str, Any]) -> str:
    """Values look the same in JSON; what is of no kind that the agent has, it refuses as text."""
    plain = {key: value for key, value in configuration.items() if not isinstance(value, dict)}
    lines = [
        "# Made from the image's settings and pinna.toml on the boot partition; change it there, and restart."
    ]
    lines += [
        f"{quoted(key)} = {json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in plain.items()
    ]
    for table, keys in configuration.items():
        if isinstance(keys, dict):
            lines += ["", f"[{quoted(table)}]"]
            lines += [
                f"{quoted(key)} = {json.dumps(value, ensure_ascii=False, default=str)}"
                for key, value in keys.items()
            ]
    return "\n".join([*lines, ""])


def quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


# --- settled --------------------------------------------------------------------------------------


def settled(device: Device) -> None:
    """Nothing is turned off while cloud-init has anything to complain about: its next start tries again."""
    troubles = []
    try:
        keep_command_line(device)
        done = json.loads(ask(["cloud-init", "status", "--format=json"], also=(2,)))
        if done.get("errors"):
            raise TroubleError(
                f"user-data or network-config: {'; '.join(map(str, done['errors']))}. Correct it there"
            )
        write(device.root / "etc/cloud/cloud-init.disabled", "")
    except (TroubleError, ValueError) as trouble:
        troubles.append(str(trouble))
    tell(device, "user-data", troubles)


def keep_command_line(device: Device) -> None:
    """What Imager added to cmdline.txt goes where raspi-firmware's hook looks when it writes that anew."""
    if not device.has_boot():
        raise TroubleError(NO_BOOT)
    built = device.root / "usr/lib/pinna/cmdline.txt"
    present = (device.boot / "cmdline.txt").read_text().split()
    added = [word for word in present if word not in built.read_text().split()]
    if added:
        write(device.root / "etc/default/raspi-extra-cmdline", " ".join(added) + "\n")


# --- common ---------------------------------------------------------------------------------------


def hostname(device: Device) -> str:
    return (device.root / "etc/hostname").read_text().strip()


def tell(device: Device, part: str, troubles: Sequence[str]) -> None:
    """On the console and in the journal, which are our output, and on the boot partition if it differs."""
    for trouble in troubles:
        print(f"pinna: {trouble}")
    state = device.state / f"trouble-{part}"
    write(state, "\n".join(troubles))
    parts = sorted(device.state.glob("trouble-*"))
    everything = [line for file in parts for line in file.read_text().splitlines()]
    text = f"This device calls itself {hostname(device)}.\n"
    text += "".join(f"Wrong: {line}\n" for line in everything) or "All that is here has been put in force.\n"
    if not device.has_boot():
        return
    with contextlib.suppress(OSError):  # one that cannot be written is no reason to do less
        if not device.status.exists() or device.status.read_text() != text:
            write(device.status, text)


def ask(command: list[str], also: tuple[int, ...] = ()) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TroubleError(f"{command[0]} cannot be run: {error}. Flash the card anew") from error
    if done.returncode and done.returncode not in also:
        raise TroubleError(f"{command[0]} failed: {(done.stderr + done.stdout).strip()}. Flash the card anew")
    return done.stdout


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, and on the card when this returns: power may fail at any time."""
    if file.is_file() and file.read_text() == text and file.stat().st_mode & 0o777 == mode:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


PARTS: Final[dict[str, Callable[[Device], None]]] = {
    "identity": identity,
    "settings": settings,
    "settled": settled,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--root", type=Path, default=Path("/"), help="another folder than /, for tests")
    given = parser.parse_args(argv)
    PARTS[given.part](Device(given.root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
