"""What is flashed: nothing shared between devices, nothing open, nothing left of the build.

Of a root file system that has never started, by `--connection=chroot`: a device has made what is its own.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

import pytest
from tests.target.proof import must

Facts = dict[str, Any]
Texts = dict[str, str]

BUILD = "Build it anew (image/build); image/seal.sh is what removes it."
PLAYBOOK = "Build it anew (image/build): the roles write it."
DPKG = "Build it anew with image/build --fresh: image/dpkg.cfg rules what is unpacked."

IDENTITIES = (
    r"etc/ssh/ssh_host_.*|var/lib/dbus/machine-id|var/lib/systemd/random-seed"
    r"|root/\.ssh/.*|etc/ssl/private/.+"
)
LEFT_OF_BUILD = (
    r"usr/sbin/policy-rc\.d|var/lib/pinna-image.*|var/lib/apt/lists/[^/]*(Packages|Release).*"
    r"|var/cache/apt/.*\.(bin|deb)|root/\.(ansible|cache).*|tmp/.+|var/tmp/.+|run/.+|var/log/.*\.log"
    r"|etc/(passwd|shadow|group|gshadow)-|var/lib/dpkg/.*-old|var/lib/cloud/.+|.*/__pycache__/.*\.pyc\.\d+"
)
STARTED = (
    "multi-user.target.wants/pinna-agent.service",
    "multi-user.target.wants/pinna-settings.service",
    "multi-user.target.wants/ssh.service",
    "sysinit.target.wants/pinna-firewall.service",
    "sysinit.target.wants/pinna-identity.service",
    "cloud-init.target.wants/pinna-settled.service",
)


@pytest.fixture(scope="module")
def names(image: Facts) -> list[str]:
    """Of all that lies there, whatever it is, relative to the root."""
    return [name for kind in ("files", "folders", "links", "special") for name in image[kind]]


@pytest.fixture(scope="module")
def files(image: Facts) -> set[str]:
    """The names of all that are neither folders nor links, relative to the root."""
    return set(image["files"])


@pytest.fixture(scope="module")
def links(image: Facts) -> set[str]:
    return set(image["links"])


@pytest.fixture(scope="module")
def texts(image: Facts) -> Texts:
    """What some of them say; empty where there is no such file."""
    return defaultdict(str, image["texts"])


def test_no_two_devices_share_an_identity(names: list[str], texts: Texts) -> None:
    shared = [name for name in names if re.fullmatch(IDENTITIES, name)]
    must(not shared, f"every device flashed with it would have the same {', '.join(shared)}", BUILD)
    number = texts["etc/machine-id"]
    must(number == "uninitialized\n", f"/etc/machine-id holds {number!r}, not `uninitialized`", BUILD)
    must(texts["etc/hostname"] == "pinna\n", f"its name is {texts['etc/hostname']!r}, not `pinna`", PLAYBOOK)


def test_it_brings_no_token(files: set[str], texts: Texts) -> None:
    must(
        "etc/pinna/hub_token" in files,
        "/etc/pinna/hub_token is not there, and the agent asks for it",
        PLAYBOOK,
    )
    must(not texts["etc/pinna/hub_token"].strip(), "/etc/pinna/hub_token holds a token", BUILD)


def test_nobody_has_a_password(texts: Texts) -> None:
    accounts = [line.split(":") for line in texts["etc/shadow"].splitlines()]
    must(accounts, "/etc/shadow is not there, or empty", BUILD)
    known = [account[0] for account in accounts if not account[1].startswith(("!", "*"))]
    must(not known, f"one can log in with a password as {', '.join(known)}", BUILD)


def test_nothing_is_left_of_the_build(image: Facts, names: list[str]) -> None:
    left = [name for name in names if re.fullmatch(LEFT_OF_BUILD, name)] + image["special"]
    must(not left, f"the build has left {', '.join(left[:8])}", BUILD)


def test_it_has_no_program_of_the_builder_s(names: list[str]) -> None:
    """The playbook runs with the system's own Python: there never is a builder's."""
    foreign = [name for name in names if re.search("x86_64|amd64", name) and name.endswith((".so", ".whl"))]
    must(not foreign, f"built for another processor: {', '.join(foreign[:8])}", BUILD)


def test_what_dpkg_leaves_out_of_updates_is_not_there(files: set[str], texts: Texts) -> None:
    """A rule on a later line wins, as for dpkg."""
    lines = texts["etc/dpkg/dpkg.cfg.d/pinna"].splitlines()
    rules = [line.partition("=") for line in lines if "=" in line]
    must(len(rules) > 10, "/etc/dpkg/dpkg.cfg.d/pinna has no rules", DPKG)

    def is_kept(name: str) -> bool:
        matching = [kind for kind, _, pattern in rules if fnmatch.fnmatchcase(f"/{name}", pattern)]
        return not matching or matching[-1] == "path-include"

    made = {"usr/share/info/dir"}  # which no package brings: a trigger makes it
    left = {name for name in files - made if not is_kept(name)}
    must(not left, f"dpkg would leave out {', '.join(sorted(left)[:8])}", DPKG)


def test_documentation_is_left_out_but_for_licences(files: set[str]) -> None:
    documents = [name for name in files if re.match(r"usr/share/(doc|man)/.", name)]
    licences = [name for name in documents if name.endswith("/copyright")]
    must(licences, "the licences of the packages are not there", DPKG)
    must(licences == documents, f"{len(documents) - len(licences)} other documents are there", DPKG)


def test_every_driver_that_the_kernel_knows_of_is_there(files: set[str], texts: Texts) -> None:
    lists = [name for name in texts if re.fullmatch(r"usr/lib/modules/[^/]+/modules\.dep", name)]
    must(len(lists) == 1, f"one kernel is meant to be there, not {len(lists)}", DPKG)
    folder = PurePosixPath(lists[0]).parent
    known = {str(folder / line.partition(":")[0]) for line in texts[lists[0]].splitlines()}
    must(any("/snd-usb-audio." in name for name in known), "the kernel has no driver for USB sound", DPKG)
    missing = known - files
    must(not missing, f"drivers that are listed, but not there: {', '.join(sorted(missing)[:8])}", DPKG)


def test_a_kernel_update_will_describe_the_card_not_the_builder(files: set[str], texts: Texts) -> None:
    if "etc/rpi-issue" in files:
        pytest.skip("Raspberry Pi OS updates its kernel in its own way")
    settings = set(texts["etc/default/raspi-firmware"].splitlines())
    must({"CMA=0", "ROOTPART=LABEL=PINNA"} <= settings, "raspi-firmware would look at the builder", PLAYBOOK)
    kept = (
        "/etc/default/raspi-firmware\n/etc/default/raspi-firmware.debian\n"
        in texts["var/lib/dpkg/diversions"]
    )
    must(kept, "an update of raspi-firmware would replace its settings", PLAYBOOK)


def test_disks_are_mounted_by_label_and_grow(files: set[str], texts: Texts) -> None:
    if "etc/rpi-issue" in files:
        pytest.skip("Raspberry Pi OS mounts and grows its disks in its own way")
    lines = [line.split() for line in texts["etc/fstab"].splitlines() if not line.startswith("#")]
    mounts = {fields[1]: (fields[0], set(fields[3].split(","))) for fields in lines if len(fields) > 3}
    device, options = mounts.get("/", ("", set()))
    must(device == "LABEL=PINNA", f"the root is mounted from {device or 'nowhere'}", PLAYBOOK)
    must("x-systemd.growfs" in options, "the root would not grow to its card", PLAYBOOK)
    device, options = mounts.get("/boot/firmware", ("", set()))
    must(device == "LABEL=CIDATA", f"/boot/firmware is mounted from {device or 'nowhere'}", PLAYBOOK)
    must({"nofail", "umask=0077"} <= options, "/boot/firmware is open to all, or must be there", PLAYBOOK)


def test_the_watchdog_is_within_what_the_chip_can_count(texts: Texts) -> None:
    """It counts 16 s at most; more is taken modulo 16."""
    said = texts["etc/systemd/system.conf.d/pinna-watchdog.conf"]
    times = dict(re.findall(r"(?m)^(\w+WatchdogSec)=(\d+)s$", said))
    right = times == {"RuntimeWatchdogSec": "15", "RebootWatchdogSec": "15"}
    must(right, f"the watchdog's times are {times}", PLAYBOOK)


def test_only_what_is_declared_comes_in(texts: Texts) -> None:
    rules, ssh = texts["etc/nftables-pinna.conf"], texts["etc/ssh/sshd_config.d/00-pinna.conf"]
    must("policy drop" in rules, "the firewall lets everything in", PLAYBOOK)
    open_ports = re.findall(r"(tcp|udp) dport \{ ([^}]*) \}", rules)
    must(open_ports == [("tcp", "22"), ("udp", "5353")], f"the firewall lets in {open_ports}", PLAYBOOK)
    must("PasswordAuthentication no" in ssh, "ssh takes passwords", PLAYBOOK)
    must("PermitRootLogin prohibit-password" in ssh, "ssh lets root in by other means than keys", PLAYBOOK)


@pytest.mark.parametrize("unit", STARTED)
def test_it_starts_by_itself(links: set[str], unit: str) -> None:
    must(f"etc/systemd/system/{unit}" in links, f"{unit.partition('/')[2]} does not start at boot", PLAYBOOK)


def test_docker_starts_by_itself_where_it_is(files: set[str], links: set[str]) -> None:
    if "usr/sbin/dockerd" not in files:
        pytest.skip("built without Docker")
    enabled = "etc/systemd/system/multi-user.target.wants/docker.service" in links
    must(enabled, "docker.service does not start at boot", PLAYBOOK)


def test_the_first_boot_asks_nothing_and_enables_nothing(image: Facts, texts: Texts) -> None:
    masked = image["targets"].get("etc/systemd/system/systemd-firstboot.service") == "/dev/null"
    must(masked, "systemd-firstboot may ask at the console, for ever", PLAYBOOK)
    presets = texts["etc/systemd/system-preset/00-pinna.preset"].splitlines()
    must("disable *" in presets, "a first boot enables what Debian's presets name", PLAYBOOK)


def test_programs_that_act_as_root_do_so(image: Facts) -> None:
    modes = image["modes"]
    must(modes == {"usr/bin/su": "4755", "usr/bin/sudo": "4755"}, f"their modes are {modes}", BUILD)
