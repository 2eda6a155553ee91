"""The base system: Debian arm64 as a disk image, built once, cached, and copied on write.

The build needs neither root nor qemu-user. mmdebstrap downloads and extracts the packages, the host's dpkg
unpacks them at native speed (`unpack.sh`), and an emulated machine runs the maintainer scripts
(`configure.sh`): its translated code stays cached from one short process to the next, which qemu-user
throws away at each fork.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.virtual_pi import initramfs
from tests.virtual_pi.cache import cached
from tests.virtual_pi.errors import VirtualPiError
from tests.virtual_pi.processes import end, need, spawn
from tests.virtual_pi.progress import say, step

SUITE = "trixie"  # unless a test asks for another
ARCHITECTURE = "arm64"
DISK_BYTES = 8 << 30  # sparse; an SD card's size must be a power of two for the raspi3b board
LABEL = "PINNA"

PACKAGES = (
    "alsa-utils",
    "avahi-daemon",
    "busybox-static",  # the initramfs runs it
    "ca-certificates",
    "cloud-guest-utils",
    "dbus",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "libasound2-plugins",
    "libnss-mdns",
    "libopus0",
    "libpam-systemd",
    "libportaudio2",
    "libspeexdsp1",
    "linux-image-arm64",
    "netbase",
    "nftables",
    "openssh-server",
    "python3",
    "python3-apt",  # Ansible's apt module
    "python3-venv",
    "sudo",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "zstd",
    "?essential",
    "?priority(required)",
    "?priority(important)",
)

_HERE = Path(__file__).parent
_RECIPE = ("unpack.sh", "assemble.sh", "configure.sh", "initramfs.py", "init.sh")
# From trixie on, base-files brings these links, and has a preinst script: unpack.sh leaves it for later.
_MERGE_USR = 'for name in bin sbin lib; do mkdir -p "$1/usr/$name"; ln -s "usr/$name" "$1/$name"; done'
_BASE_FILES_LATER = 'cd "$1/var/cache/apt/archives" && mkdir -p later && mv base-files_* later/'
_NEEDS_FREE = 6 << 30
_SILENCE_SECONDS = (
    600.0  # longest that the emulated machine may say nothing; ca-certificates takes about 60 s
)


@dataclass(frozen=True)
class Base:
    """Files of one built base system; read-only, shared by every virtual Pi."""

    folder: Path

    @property
    def disk(self) -> Path:
        """A raw, sparse image: one ext4 file system labelled `LABEL`, no partition table."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    def device_tree(self, name: str) -> Path:
        """Debian's own, from the kernel package; for example `bcm2837-rpi-3-b.dtb`."""
        return self.folder / name

    def fresh_disk(self, at: Path) -> Path:
        """Make a copy-on-write disk at `at` (qcow2); takes milliseconds, and the base stays as it is."""
        return overlay(self.disk, "raw", at)


def overlay(backing: Path, backing_format: str, at: Path) -> Path:
    """A qcow2 at `at` that holds only the differences from `backing`."""
    need("qemu-img", "qemu-utils")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", backing_format, "-b", str(backing.resolve())]
    done = subprocess.run([*command, str(at)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise VirtualPiError(f"cannot make a disk: {done.stderr.strip()}", hint=f"is {at.parent} full?")
    return at


def key() -> str:
    """Changes when the package list or a script of the build does."""
    digest = hashlib.sha256(repr((PACKAGES, DISK_BYTES, LABEL)).encode())
    for name in _RECIPE:
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:12]


def base(suite: str = SUITE) -> Base:
    """The base system of this recipe; built now when the cache does not hold it (minutes)."""
    return Base(cached(f"{suite}-{ARCHITECTURE}", key(), lambda work: _build(work, suite)))


def _build(work: Path, suite: str) -> None:
    for program, package in (
        ("mmdebstrap", "mmdebstrap"),
        ("fakeroot", "fakeroot"),
        ("mke2fs", "e2fsprogs"),
        ("depmod", "kmod"),
        ("qemu-system-aarch64", "qemu-system-arm"),
    ):
        need(program, package)
    free = shutil.disk_usage(work).free
    if free < _NEEDS_FREE:
        raise VirtualPiError(
            f"{work.parent} has {free >> 20} MB free, the base system needs {_NEEDS_FREE >> 20} MB to build",
            hint="free some space, or set XDG_CACHE_HOME to a folder on another disk",
        )
    with step(f"building the base system, Debian {suite} {ARCHITECTURE} (once)"):
        _bootstrap(work, suite)
        _assemble(work)
        _configure(work)
        _check(work)
    shutil.rmtree(work / "root")
    (work / "log").rename(work / "build.log")


def _bootstrap(work: Path, suite: str) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={ARCHITECTURE}"]
    command += ["--aptopt=APT::Install-Recommends false", "--skip=cleanup/apt/cache"]
    packages = PACKAGES
    if suite == "bookworm":
        command += [f"--setup-hook={_MERGE_USR}", f"--extract-hook={_BASE_FILES_LATER}"]
        packages += ("usr-is-merged",)
    command += [f"--include={','.join(packages)}", f"--extract-hook={(_HERE / 'unpack.sh').read_text()}"]
    with step("downloading and unpacking the packages"):
        _run([*command, suite, str(work / "root.tar")], work / "log", timeout=1800)


def _assemble(work: Path) -> None:
    with step("making the disk"):
        script = ["sh", str(_HERE / "assemble.sh"), str(work), str(_HERE / "configure.sh")]
        _run(["fakeroot", "--", *script, str(DISK_BYTES), LABEL], work / "log", timeout=600)
        (work / "root.tar").unlink()
        (work / "initrd").write_bytes(initramfs.build(work / "root"))
        (kernel,) = (work / "root/boot").glob("vmlinuz-*")
        shutil.copyfile(kernel, work / "vmlinuz")
        for tree in (work / "root").glob("usr/lib/linux-image-*/broadcom/bcm28*.dtb"):
            shutil.copyfile(tree, work / tree.name)


def _run(command: list[str], log: Path, *, timeout: float) -> None:
    with log.open("w") as output:
        program = spawn(command, output=output.fileno())
        try:
            code = program.wait(timeout)
            failure = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"not done after {timeout:.0f} s"
        finally:
            end(program)
    if failure:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise VirtualPiError(
            f"{command[0]} failed: {failure}", hint="is the network up, and is there space?", console=tail
        )


def _configure(work: Path) -> None:
    """Boot the disk with configure.sh as its first process, and follow its console until it powers off."""
    console = work / "log"
    command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "1024"]
    command += ["-accel", "tcg,thread=multi,tb-size=512", "-display", "none", "-no-reboot", "-nic", "none"]
    command += [
        "-kernel",
        str(work / "vmlinuz"),
        "-initrd",
        str(work / "initrd"),
        "-serial",
        f"file:{console}",
    ]
    command += [
        "-append",
        "console=ttyAMA0 root=/dev/vda rw init=/var/lib/pinna-base/configure quiet panic=-1",
    ]
    # The image is thrown away if the host fails, so nothing has to reach its disk before the end.
    disk = f"file={work / 'disk.raw'},format=raw,if=none,id=disk,cache=unsafe,discard=unmap"
    command += ["-drive", f"{disk},werror=report"]  # with the host's disk full, dpkg shall say so at once
    command += ["-device", "virtio-blk-device,drive=disk"]
    console.write_text("")
    with step("configuring the packages in an emulated machine"):
        emulator = spawn(command)
        try:
            said, heard_at, told_at = 0, time.monotonic(), time.monotonic()
            while emulator.poll() is None:
                time.sleep(1)
                now, size = time.monotonic(), console.stat().st_size
                if size > said:
                    said, heard_at = size, now
                if now - heard_at > _SILENCE_SECONDS:
                    break
                if now - told_at > 30:
                    told_at = now
                    say(f"  {console.read_text(errors='replace').count('Setting up ')} packages configured")
        finally:
            end(emulator)
    text = console.read_text(errors="replace").replace("\r", "")
    if "pinna: configured" not in text:
        raise VirtualPiError(
            "configuring the base system failed",
            hint="the console says why; with the disk full or the network gone, mend that and try again",
            console="\n".join(text.splitlines()[-25:]),
        )


def _check(work: Path) -> None:
    """Finish what the emergency remount left to the next mount: files deleted while open, the journal."""
    e2fsck = need("e2fsck", "e2fsprogs")
    done = subprocess.run(
        [e2fsck, "-fp", str(work / "disk.raw")], capture_output=True, timeout=300, check=False
    )
    if done.returncode > 1:  # 1: it mended something
        raise VirtualPiError(
            f"the base system's disk is damaged: {done.stdout.decode(errors='replace').strip()}",
            hint="is the host's disk full or failing?",
        )
