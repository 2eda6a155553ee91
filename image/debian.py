"""The base of the image: Debian trixie arm64, unpacked on the host, configured in an emulated machine."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from image.programs import ask, run
from image.progress import say, step
from image.tools import tools
from tests.virtual_pi import initramfs
from tests.virtual_pi.processes import need

from image import cache, emulator

SUITE = "trixie"
ARCHITECTURE = "arm64"
MIRRORS = (
    "deb http://deb.debian.org/debian trixie main non-free-firmware",
    "deb http://deb.debian.org/debian trixie-updates main non-free-firmware",
    "deb http://deb.debian.org/debian-security trixie-security main non-free-firmware",
)

PACKAGES = (
    # boards: firmware, Wi-Fi, their way to boot
    "dosfstools",
    "firmware-brcm80211",
    "initramfs-tools",
    "linux-image-arm64",
    "raspi-firmware",
    "wireless-regdb",
    "wpasupplicant",
    # first boot
    "cloud-guest-utils",
    "cloud-init",
    "fdisk",
    "netplan.io",
    # a system one can log in to, and mend
    "apt",
    "busybox-static",
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "nano",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",  # Ansible's apt module
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "tzdata",
    "udev",
    "zstd",
)

FOR_ROLES = (
    "alsa-utils",
    "avahi-daemon",
    "libasound2-plugins",
    "libnss-mdns",
    "libopus0",
    "libportaudio2",
    "libspeexdsp1",
    "nftables",
    "systemd-timesyncd",
    "systemd-zram-generator",
    "unattended-upgrades",
)
"""What the roles install; the host unpacks it at native speed. One that is missing costs time, no more."""

FOR_DOCKER = ("docker-cli", "docker-compose", "docker.io")

DISK_BYTES = 4 << 30  # sparse; it never reaches the image
EPOCH = 1735689600  # 2025-01-01: dates within the initramfs

_HERE = Path(__file__).parent
_UNPACK = _HERE.parent / "tests/virtual_pi/unpack.sh"
_LEAVE_OUT = _HERE / "dpkg.cfg"


@dataclass(frozen=True)
class Base:
    """A configured Debian system; read-only, shared by all builds with the same packages."""

    folder: Path

    @property
    def disk(self) -> Path:
        """A raw, sparse ext4 file system; its /boot/firmware is a plain folder."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> emulator.Kernel:
        return emulator.Kernel(self.folder / "vmlinuz", self.folder / "initrd")


def base(*, docker: bool, fresh: bool) -> Base:
    """From the cache, or built now. `fresh` asks Debian for its present packages."""
    # Patterns come last, or mmdebstrap takes the whole list for one.
    packages = (*PACKAGES, *FOR_ROLES, *(FOR_DOCKER if docker else ()), "?essential", "?priority(required)")
    key = cache.digest(SUITE, ARCHITECTURE, MIRRORS, packages, _UNPACK, _LEAVE_OUT, emulator.STUB)
    if fresh:
        cache.forget("packages", key)
    unpacked = cache.stage("packages", key, lambda work: _unpack(work, packages))
    key = cache.digest(key, (unpacked / "made").read_text(), _HERE / "configure.sh", DISK_BYTES, EPOCH)
    return Base(cache.stage("debian", key, lambda work: _configure(work, unpacked)))


def _unpack(work: Path, packages: tuple[str, ...]) -> None:
    with step("downloading and unpacking Debian's packages"):
        root = work / "root.tar"
        command = [
            *(need("mmdebstrap", "mmdebstrap"), "--quiet", "--variant=extract"),
            *(f"--architectures={ARCHITECTURE}", "--aptopt=APT::Install-Recommends false"),
            *("--skip=cleanup/apt/cache", f"--include={','.join(packages)}", f"--dpkgopt={_LEAVE_OUT}"),
            f"--extract-hook={_UNPACK.read_text()}",
            '--extract-hook=cd "$1/etc/dpkg/dpkg.cfg.d" && mv 99mmdebstrap pinna',
            '--extract-hook=depmod -b "$1" "$(ls "$1/usr/lib/modules")"',
            *(SUITE, str(root), *MIRRORS),
        ]
        need("depmod", "kmod")
        run(command, log=work / "log", timeout=1800)
        with tempfile.TemporaryDirectory(dir=work) as folder, tarfile.open(root) as tar:
            at = Path(folder)
            tar.extractall(at, for_emulator(tar), filter="tar")
            (work / "initrd").write_bytes(initramfs.build(at))
            (kernel,) = (at / "boot").glob("vmlinuz-*")
            shutil.copyfile(kernel, work / "vmlinuz")
        with tarfile.open(root, "a") as tar:
            stub = tarfile.TarInfo(f"./{emulator.STUB_PATH}")
            stub.size, stub.mode = len(emulator.STUB), 0o755
            folder_entry = tarfile.TarInfo(str(Path(stub.name).parent))
            folder_entry.type, folder_entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder_entry)
            tar.addfile(stub, io.BytesIO(emulator.STUB))
        (work / "made").write_text(cache.digest(root))


def for_emulator(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """What the emulated machine starts from: the kernel, its modules, and busybox."""
    for entry in tar:
        if (
            entry.name.startswith(("./usr/lib/modules/", "./boot/vmlinuz-"))
            or entry.name == "./usr/bin/busybox"
        ):
            yield entry


def _configure(work: Path, unpacked: Path) -> None:
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(unpacked / name, work / name)
    with step("making a disk of the packages"):
        make_disk(work / "disk.raw", unpacked / "root.tar", DISK_BYTES)
    with step("configuring the packages in an emulated machine"):
        kernel = emulator.Kernel(work / "vmlinuz", work / "initrd")
        script, console = _HERE / "configure.sh", work / "console"
        words, more = f"pinna.epoch={EPOCH}", ("-nic", "none")
        with emulator.machine(
            kernel, work / "disk.raw", script, console=console, words=words, more=more
        ) as running:
            running.wait_for("pinna: configured", each_second=_progress(running))
            running.emulator.wait(120)
    mend(work / "disk.raw")


def _progress(running: emulator.Running) -> Iterator[None]:
    """Says every half minute how far the packages are."""
    while True:
        for _ in range(30):
            yield
        text = running.said()
        ready = text.count("Setting up ")
        say("  making the initramfs" if "pinna: initramfs" in text else f"  {ready} packages configured")


def make_disk(disk: Path, archive: Path, size: int) -> None:
    """A file system with what `archive` (a tar) holds, to build in; `filesystems` makes what is flashed."""
    with disk.open("wb") as file:
        file.truncate(size)
    arguments = ("-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-L", "PINNA")
    tools().run("mke2fs", *arguments, "-d", str(archive), str(disk), epoch=EPOCH)


def mend(disk: Path) -> None:
    """Finish what the machine's end left to the next mount: files deleted while open, the journal."""
    ask(["sh", "-c", '"$0" -fp "$1" >&2; [ $? -le 1 ]', need("e2fsck", "e2fsprogs"), str(disk)])
