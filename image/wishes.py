"""What the owner finds on the boot partition to write to: pinna.toml, and cloud-init's three files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from image.errors import BadInputError
from image.system import System
from image.tree import File

_KEY = re.compile(r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+( [^\n]*)?")


@dataclass(frozen=True)
class Wishes:
    """Options of a build that need no other system. Raises BadInputError for values that cannot be."""

    hub_url: str = ""
    name_prefix: str = "pinna"
    authorized_key: str = ""

    def __post_init__(self) -> None:
        if self.hub_url and not re.fullmatch(r"https?://[^\s@/]+(/\S*)?", self.hub_url):
            raise BadInputError(
                f"the hub's address {self.hub_url!r} is none",
                hint="Give http:// or https:// and a host, without user name and password",
            )
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,50}[A-Za-z0-9])?", self.name_prefix):
            raise BadInputError(
                f"no device can be named {self.name_prefix!r}",
                hint="Give letters, digits and hyphens, at most 52",
            )
        if self.authorized_key and not _KEY.fullmatch(self.authorized_key):
            raise BadInputError(
                "that is no public key of ssh",
                hint="Give the file that ends in .pub, such as ~/.ssh/id_ed25519.pub",
            )


def read_key(path: Path) -> str:
    """The public key in the file. Raises BadInputError for a file that has none, or a private one."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}", hint="Give a public key's file") from error
    if "PRIVATE KEY" in text:
        raise BadInputError(f"{path} is a private key", hint=f"Give the public one: {path}.pub")
    return text


def files(wishes: Wishes) -> list[File]:
    hub = f"url = {json.dumps(wishes.hub_url)}" if wishes.hub_url else '# url = "http://hub.local:8080"'
    prefix = f"name_prefix = {json.dumps(wishes.name_prefix)}" if wishes.name_prefix != "pinna" else _PREFIX
    user = _USER.format(key=json.dumps(wishes.authorized_key)) if wishes.authorized_key else ""
    texts = {
        "pinna.toml": _SETTINGS.format(hub=hub, prefix=prefix),
        "user-data": f"{_USER_DATA}{user}",
        "meta-data": "instance-id: pinna\n",
        "network-config": _NETWORK,
    }
    return [File(PurePosixPath(name), text.encode()) for name, text in texts.items()]


def over(boot: Sequence[File], wishes: Wishes, system: System) -> list[File]:
    """The boot partition's files, and the owner's in place of those of the same name.

    Raspberry Pi OS keeps its own network-config and meta-data; without cloud-init, only pinna.toml is added.
    """
    made = {item.path: item for item in files(wishes)}
    if system.raspios:
        kept = {item.path for item in boot} if system.cloud_init else made.keys()
        ours = {PurePosixPath("pinna.toml")} | ({PurePosixPath("user-data")} if system.cloud_init else set())
        made = {path: item for path, item in made.items() if path in ours or path not in kept}
    return [*(item for item in boot if item.path not in made), *made.values()]


_PREFIX = '# name_prefix = "pinna"'

_SETTINGS = """\
# Settings of this device, read at each start. What is wrong here is told in pinna-status.txt, beside it.
# A line that begins with # says nothing: remove the # to say it. All keys: docs/configuration.md.

# The name the hub knows this device by. Without one: its host name.
# device_id = "kitchen"

# What the host name begins with if you give the device none; the end of the board's serial number follows.
{prefix}

[hub]
{hub}
# A file beside this one that holds the hub's token, alone on a line.
# token_file = "hub_token"

# Which card is the microphone, where there are several. One of these:
# [microphone]
# serial = "0123456789"
# port = "1-1.2"
# usb_id = "4c4a:4155"
"""

_USER_DATA = "#cloud-config\n# Raspberry Pi Imager replaces this file.\npreserve_hostname: true\n"

_USER = """\
users:
  - name: admin
    groups: [sudo, audio]
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    lock_passwd: true
    ssh_authorized_keys: [{key}]
"""

_NETWORK = """\
# Raspberry Pi Imager replaces this file. Wired networks configure themselves; for Wi-Fi, remove the #.
version: 2
ethernets:
  wired:
    match: {name: "e*"}
    dhcp4: true
    optional: true
# wifis:
#   wlan0:
#     dhcp4: true
#     optional: true
#     regulatory-domain: "DE"
#     access-points: {"name of the network": {password: "its password"}}
"""
