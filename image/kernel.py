"""Debian's kernel, to start an emulated machine on a root file system that has none for it."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from pathlib import Path

from image.debian import ARCHITECTURE, MIRRORS, SUITE, for_emulator
from image.programs import run
from image.progress import step
from tests.virtual_pi import initramfs
from tests.virtual_pi.processes import need

from image import cache

_PACKAGES = ("busybox-static", "linux-image-arm64")
_MODULES = ("virtio_net", "virtio_rng", "nf_tables", "nft_ct")
"""What the playbook needs beside the disk: the network, and nft's check of the firewall's rules."""


def kernel() -> Path:
    """A folder with Debian's vmlinuz, and an initrd that brings all modules that building takes."""
    key = cache.digest(SUITE, ARCHITECTURE, MIRRORS, _PACKAGES, _MODULES)
    return cache.stage("kernel", key, _fetch)


def _fetch(work: Path) -> None:
    with step("fetching the kernel of the emulated machine"):
        archive, log = work / "packages.tar", work / "log"
        command = [
            *(need("mmdebstrap", "mmdebstrap"), "--quiet", "--variant=extract"),
            *(f"--architectures={ARCHITECTURE}", "--aptopt=APT::Install-Recommends false"),
            *(f"--include={','.join(_PACKAGES)}", SUITE, str(archive), *MIRRORS),
        ]
        run(command, log=log, timeout=1800)
        with tempfile.TemporaryDirectory(dir=work) as folder, tarfile.open(archive) as tar:
            at = Path(folder)
            tar.extractall(at, for_emulator(tar), filter="tar")
            (work / "initrd").write_bytes(initramfs.build(at) + gzip.compress(_more_modules(at), 6, mtime=0))
            (found,) = (at / "boot").glob("vmlinuz-*")
            shutil.copyfile(found, work / "vmlinuz")
        archive.unlink()
        log.unlink()


def _more_modules(system: Path) -> bytes:
    """An archive that the kernel unpacks over the initramfs: later files replace earlier ones."""
    (version,) = (system / "usr/lib/modules").iterdir()
    modules = initramfs.load_order(version, (*initramfs.MODULES, *_MODULES))
    order = "".join(f"{file.name}\n" for file in modules).encode()
    entries = [("order", order), *((file.name, file.read_bytes()) for file in modules)]
    return initramfs.cpio([(f"modules/{name}", 0o100644, content) for name, content in entries])
