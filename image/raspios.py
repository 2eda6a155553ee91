"""Raspberry Pi OS Lite as the base: an image file, taken apart without root, loop devices or mounts.

Its root file system becomes the disk of the emulated machine in which the playbook runs, and the boot
partition's files a folder of it, as with Debian's packages (image/debian.py). The machine starts with
Debian's kernel: those of Raspberry Pi OS have no drivers for it.
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from image.boards import Board, check_raspios
from image.debian import DISK_BYTES, EPOCH, Base, mend
from image.describe import sha256
from image.errors import BadInputError, ImageError
from image.filesystems import SECTOR
from image.partitions import Partition, cut, table, unpacked
from image.progress import step
from image.system import CLOUD_INIT, CURE, ISSUE, disk_id, suite
from image.tools import tools
from image.tree import BOOT, File

from image import cache, emulator, kernel

SUITES = ("bookworm", "trixie")
_AARCH64 = 183  # e_machine of ELF


def base(file: Path) -> Base:
    """From the cache, or made now. Raises BadInputError for what is no Raspberry Pi OS Lite (64 bit)."""
    if not file.is_file():
        raise BadInputError(f"{file} is no file", hint=CURE)
    recipe = (Path(__file__), Path(kernel.__file__), emulator.STUB, DISK_BYTES)
    with step(f"reading {file.name}"):
        key = cache.digest(sha256(file), *recipe)
    try:
        return Base(cache.stage("raspios", key, lambda work: _make(work, file)))
    except BadInputError as error:
        raise BadInputError(f"{file}: {error.cause}", hint=error.hint) from error


def check(opened: Base, boards: Sequence[Board], *, key: bool) -> None:
    """Raises BadInputError for what would only show when the playbook has run: `key` is an authorised one."""
    boot = [File(PurePosixPath(name), data) for name, data in _contents(opened.folder / "boot").items()]
    check_raspios(boards, boot, disk_id(_read(opened.disk, "etc/fstab").decode(errors="replace")))
    if key and not _read(opened.disk, CLOUD_INIT):
        raise BadInputError(
            "--authorized-key takes cloud-init, which this Raspberry Pi OS does not have",
            hint="Leave it out and give the user in Raspberry Pi Imager, or take Raspberry Pi OS trixie",
        )


def _make(work: Path, file: Path) -> None:
    take_apart(file, work)
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(kernel.kernel() / name, work / name)


def take_apart(file: Path, work: Path) -> None:
    """Fills `work` as a Base without a kernel: the disk, and the boot partition's files in `boot`.

    Raises BadInputError for what is no image of Raspberry Pi OS Lite, 64 bit.
    """
    disk, boot = work / "disk.raw", work / "boot"
    with step("taking the image of Raspberry Pi OS apart"):
        image = unpacked(file, work)
        with image.open("rb") as source:
            fat, root = table(source.read(SECTOR), image.stat().st_size)
            cut(source, root, disk)
        _judge(disk)
        boot.mkdir()
        _copy_fat(image, fat, boot)
        if image != file:
            image.unlink()
        mend(disk)
        with disk.open("r+b") as target:
            target.truncate(DISK_BYTES)
        tools().run("resize2fs", str(disk), epoch=EPOCH)
        stub = work / "stub"
        stub.write_bytes(emulator.STUB)
        stub.chmod(0o755)
        _fill(disk, boot, stub)
        stub.unlink()
        mend(disk)


def _judge(disk: Path) -> None:
    """Raises BadInputError unless the file system is the root of a 64-bit Raspberry Pi OS that we know."""
    with disk.open("rb") as file:
        file.seek(1024 + 56)
        if file.read(2) != b"\x53\xef":
            raise BadInputError("its second partition holds no ext4 file system", hint=CURE)
    if not _read(disk, ISSUE):
        raise BadInputError(f"its root file system has no /{ISSUE}: it is not Raspberry Pi OS", hint=CURE)
    named = suite(_read(disk, "usr/lib/os-release").decode(errors="replace"))
    if named not in SUITES:
        raise BadInputError(f"it is Raspberry Pi OS {named}, not {' or '.join(SUITES)}", hint=CURE)
    program = _read(disk, "usr/bin/dpkg")
    if program[:4] != b"\x7fELF" or struct.unpack_from("<H", program, 18) != (_AARCH64,):
        raise BadInputError("it is the 32-bit Raspberry Pi OS; the agent needs 64 bits", hint=CURE)
    disk_id(_read(disk, "etc/fstab").decode(errors="replace"))
    if not _has_folder(disk, PurePosixPath("/") / BOOT):
        raise BadInputError(f"its root file system has no /{BOOT}", hint=CURE)


def _copy_fat(image: Path, fat: Partition, folder: Path) -> None:
    try:
        tools().run("mcopy", "-s", "-n", "-i", f"{image}@@{fat.start}", "::/*", str(folder), epoch=EPOCH)
    except ImageError as error:
        raise BadInputError("its boot partition cannot be read", hint=CURE) from error


def _fill(disk: Path, boot: Path, stub: Path) -> None:
    """Put what `boot` holds below /boot/firmware, and the emulator's first process in its place."""
    commands = [f"cd /{BOOT}", *_writes(boot)]
    program = PurePosixPath("/") / emulator.STUB_PATH
    for at in reversed(program.parents):
        # debugfs's mkdir of what is there already leaves an inode behind that e2fsck takes for damage.
        if not _has_folder(disk, at):
            commands += [f"cd {at.parent}", f"mkdir {at.name}"]
    commands += [f"cd {program.parent}", f'write "{stub}" {program.name}']
    with tempfile.TemporaryDirectory(dir=disk.parent) as folder:
        script, copied = Path(folder) / "script", Path(folder) / "firmware"
        script.write_text("".join(f"{command}\n" for command in commands))
        tools().run("debugfs", "-w", "-f", str(script), str(disk), epoch=EPOCH)
        _debugfs(disk, f'rdump /{BOOT} "{folder}"')
        # debugfs ends well whatever has failed.
        if _contents(copied) != _contents(boot) or _read(disk, emulator.STUB_PATH) != emulator.STUB:
            raise ImageError("debugfs did not write all files to the disk", hint="is there space?")


def _writes(folder: Path) -> Iterator[str]:
    """For debugfs: what puts all that `folder` holds where it is."""
    for path in sorted(folder.iterdir()):
        if not re.fullmatch(r"[!#-~]+", path.name):  # debugfs has no words for others
            raise BadInputError(f"its boot partition has a file {path.name!r}", hint=CURE)
        if path.is_dir():
            yield from (f"mkdir {path.name}", f"cd {path.name}", *_writes(path), "cd ..")
        else:
            yield f'write "{path}" {path.name}'


def _contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _read(disk: Path, name: str) -> bytes:
    """The file's content; empty if there is none."""
    return _debugfs(disk, f"cat /{name}")


def _has_folder(disk: Path, path: PurePosixPath) -> bool:
    return b"Type: directory" in _debugfs(disk, f"stat {path}")


def _debugfs(disk: Path, command: str) -> bytes:
    return tools().run("debugfs", "-R", command, str(disk), epoch=EPOCH)
