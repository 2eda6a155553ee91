"""Build the image that is flashed on a card: Debian (or --base), made an appliance by ansible/site.yml.

Everything runs as you: no root, no loop devices, no mounts. What a build has finished stays in the cache,
so one that was cut short goes on from there, and one that differs only in --hub-url, --name-prefix,
--authorized-key or --boards takes a minute. SOURCE_DATE_EPOCH sets all dates; without it, the last change's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from image.appliance import appliance
from image.bmap import block_map
from image.boards import BOARDS, RASPIOS_BOARDS, Board, check, check_raspios, choose, only
from image.cache import need_space
from image.debian import Base, base
from image.errors import BadInputError, NotReproducibleError
from image.programs import run
from image.progress import say, step
from image.system import look
from image.tools import Tools, tools
from tests.virtual_pi.processes import need

from image import describe, filesystems, raspios, tree, wishes
from pinna.errors import PinnaError

_CHECKOUT = Path(__file__).parent.parent
_EXIT_CODES = "0: built; 1: it failed; 3: an option or file cannot be used; 4: no space; 5: not reproducible"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="image/build",
        description=__doc__,
        epilog=f"Exit codes: {_EXIT_CODES}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("build/image"), metavar="FOLDER", help="(%(default)s)")
    add(
        "--base",
        type=Path,
        metavar="IMAGE",
        help="an image of Raspberry Pi OS Lite (64 bit) to build from (.img.xz, .img); not Debian's packages",
    )
    add(
        "--boards",
        default="",
        metavar="LIST",
        help=f"which it is for ({','.join(BOARDS)}; with --base {','.join(RASPIOS_BOARDS)})",
    )
    add("--hub-url", default="", metavar="URL", help="where the hub is; owners can change it in pinna.toml")
    add(
        "--name-prefix",
        default="pinna",
        help="of host names, before the end of the serial number (%(default)s)",
    )
    add("--authorized-key", type=Path, metavar="FILE.pub", help="lets its owner in by ssh, as user admin")
    add(
        "--settings",
        type=Path,
        metavar="FILE.yml",
        help="variables of the roles, as docs/provisioning.md has them",
    )
    add("--no-docker", action="store_true", help="leave Docker and its probe out")
    add(
        "--url",
        metavar="URL",
        help="the folder from which Raspberry Pi Imager will fetch it (the output folder)",
    )
    add("--fresh", action="store_true", help="ask Debian for its present packages, whatever the cache has")
    add(
        "--verify-reproducible",
        action="store_true",
        help="run the playbook and the assembly twice, and compare",
    )
    return parser.parse_args(argv)


def main() -> int:
    options = arguments()
    began = time.monotonic()
    try:
        build(options)
    except PinnaError as error:
        print(f"image: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a disk that is full, a folder that is not ours
        print(f"image: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("image: ended; the next build goes on from what is finished", file=sys.stderr)
        return 130
    say(f"done in {time.monotonic() - began:.0f} s")
    return 0


def build(options: argparse.Namespace) -> None:
    boards = choose(options.boards, RASPIOS_BOARDS if options.base else BOARDS)
    if options.base and options.fresh:
        raise BadInputError(
            "--fresh asks Debian for packages, but --base has its own", hint="Give one of the two"
        )
    key = wishes.read_key(options.authorized_key) if options.authorized_key else ""
    owner = wishes.Wishes(options.hub_url, options.name_prefix, key)
    epoch = source_date_epoch()
    output: Path = options.output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"{output} cannot be made: {error.strerror}", hint="Give another folder: --output"
        ) from error
    need_space(output, 3 << 30)
    system = opened(options, boards) or base(docker=not options.no_docker, fresh=options.fresh)
    root = appliance(system, docker=not options.no_docker, settings=options.settings, epoch=epoch)
    if options.verify_reproducible:
        before = describe.sha256(root)
        root = appliance(
            system, docker=not options.no_docker, settings=options.settings, epoch=epoch, again=True
        )
        if describe.sha256(root) != before:
            raise NotReproducibleError(
                "the playbook made another system the second time", hint="Diffoscope shows where"
            )
    name = f"pinna-{version()}{'-raspios' if options.base else ''}{'-no-docker' if options.no_docker else ''}"
    with tempfile.TemporaryDirectory(prefix=".build-", dir=output) as folder:
        work = Path(folder)
        made = assemble(work / f"{name}.img", root, boards, owner, tools(), epoch)
        if options.verify_reproducible:
            second = assemble(work / "second.img", root, boards, owner, tools(), epoch)
            if describe.sha256(second.path) != describe.sha256(made.path):
                raise NotReproducibleError(
                    "the second assembly differs from the first", hint="Compare them with cmp"
                )
            second.path.unlink()
            say("both builds are the same, bit for bit")
        finish(work, made, root, boards, options, epoch)
        for path in sorted(work.iterdir()):
            path.replace(output / path.name)
    packed = output / f"{name}.img.xz"
    say(f"{packed}: {packed.stat().st_size / 1e6:.0f} MB, {made.layout.size / 1e6:.0f} MB on the card")


def opened(options: argparse.Namespace, boards: list[Board]) -> Base | None:
    """What --base names, if anything; refused here rather than after the playbook."""
    if not options.base:
        return None
    made = raspios.base(options.base)
    raspios.check(made, boards, key=bool(options.authorized_key))
    return made


def assemble(
    image: Path, root: Path, boards: list[Board], owner: wishes.Wishes, with_: Tools, epoch: int
) -> filesystems.Image:
    """The disk image of a system and an owner's wishes."""
    with step("assembling the image"):
        system, boot = look(root), tree.boot_files(root)
        if system.names.disk_id:
            check_raspios(boards, boot, system.names.disk_id)
        else:
            boot = only(boards, boot)
            check(boards, boot)
        files = wishes.over(boot, owner, system)
        return filesystems.write(image, root, files, with_, epoch=epoch, names=system.names)


def finish(
    work: Path,
    made: filesystems.Image,
    root: Path,
    boards: list[Board],
    options: argparse.Namespace,
    epoch: int,
) -> None:
    """Everything that goes with the image, beside it; the image itself is replaced by its compressed form."""
    stem = made.path.with_suffix("")
    with step("describing the image"):
        stem.with_suffix(stem.suffix + ".bmap").write_text(block_map(made))
        listed = "".join(
            f"{name} {version} {architecture}\n" for name, version, architecture in describe.packages(root)
        )
        work.joinpath(f"{stem.name}.packages.txt").write_text(listed)
        describe.write_sboms(root, work / stem.name, version=version(), epoch=epoch)
        chosen = {
            "base_sha256": describe.sha256(options.base) if options.base else "",
            "docker": not options.no_docker,
            "hub_url": options.hub_url,
            "name_prefix": options.name_prefix,
        }
        info = describe.build_info(made, root, epoch=epoch, boards=boards, options=chosen)
        work.joinpath(f"{stem.name}.build-info.json").write_text(json.dumps(info, indent=2) + "\n")
    packed = made.path.with_name(f"{made.path.name}.xz")
    with step("compressing the image"):
        command = [
            need("xz", "xz-utils"),
            "--keep",
            "--threads=0",
            "--block-size=32MiB",
            "-6",
            str(made.path),
        ]
        run(command, log=work / "log", timeout=3600)
        work.joinpath("log").unlink()
    url = options.url or options.output.resolve().as_uri()
    entry = describe.imager_list(
        made,
        packed,
        version=version(),
        epoch=epoch,
        boards=boards,
        url=url,
        init_format=look(root).init_format,
    )
    work.joinpath(f"{stem.name}.imager.json").write_text(json.dumps(entry, indent=2) + "\n")
    made.path.unlink()
    work.joinpath("SHA256SUMS").write_text(describe.sums(work.iterdir()))


def version() -> str:
    """Of this checkout."""
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def source_date_epoch() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdigit():
            raise BadInputError(
                f"SOURCE_DATE_EPOCH is {given!r}", hint="Give seconds since 1970, or unset it"
            )
        return int(given)
    return describe.commit_time() or int(time.time())


if __name__ == "__main__":
    sys.exit(main())
