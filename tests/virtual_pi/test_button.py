"""A button on a real GPIO character device.

Debian's kernels have no simulated GPIO chip (gpio-sim), but QEMU's board has a real one, an ARM PL061, whose
line 3 is the power button: QEMU presses it for a tenth of a second. Linux's driver for that button stands for
whoever holds a pin already.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.loading import load
from tests.virtual_pi.machine import Machine

ROOT = Path(__file__).parents[2]
CHIP, LINE, LINES = "/dev/gpiochip0", 3, 8

LISTEN = """
import select, sys, time
from pinna.session.gpio import open_button
from pinna.session.presses import Presses
line = open_button({chip!r}, {line}, "supply")
presses = Presses(line.pressed(), time.monotonic())
print("ready", line.pressed(), flush=True)
signs, edges = [], 0
while not signs:
    wait = 300 if presses.due is None else max(0, presses.due - time.monotonic())
    if select.select([line.fd], [], [], wait)[0]:
        for at, pressed in line.edges():
            assert abs(time.monotonic() - at) < 300, at
            edges += 1
            signs += presses.edge(at, pressed)
    else:
        signs += presses.pass_time(time.monotonic())
print(edges, *signs)
"""


@pytest.fixture(scope="module")
def ask(pi: Machine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Runs a program on the Pi with our modules and the lock's gpiod; returns what it says."""
    release = load("agent/files/build_release.py")
    python = pi.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").stdout.strip()
    blocks = release.locked(ROOT / "requirements.lock", "aarch64", python).split("\n")
    begin = next(number for number, line in enumerate(blocks) if line.startswith("gpiod=="))
    end = next(number for number, line in enumerate(blocks) if number > begin and not line.startswith("    "))
    tree = tmp_path_factory.mktemp("gpiod") / "tree"
    release.install_wheels(tree, "\n".join(blocks[begin:end]) + "\n", "aarch64", python)
    for name in ("__init__", "errors", "session/__init__", "session/gpio", "session/presses"):
        target = tree / "pinna" / f"{name}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / "agent/pinna" / f"{name}.py").read_bytes())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tree, "button")
    (tree.parent / "button.tar").write_bytes(packed.getvalue())
    pi.put(tree.parent / "button.tar", "/var/tmp/button.tar")
    pi.run("tar -C /var/tmp -xf /var/tmp/button.tar")
    pi.run("modprobe -r gpio_keys")
    return lambda program: (
        pi.run("cd /var/tmp/button && timeout 400 python3 -", stdin=program, timeout=420).stdout
    )


def refusal(ask: Callable[[str], str], pin: int) -> str:
    told = ask(
        "import json\n"
        "from pinna.errors import PinError\n"
        "from pinna.session.gpio import open_button\n"
        f"try: open_button({CHIP!r}, {pin}, 'supply')\n"
        "except PinError as error: print(json.dumps([error.cause, error.hint]))\n"
    )
    cause, hint = json.loads(told)
    return f"{cause}. {hint}"


def test_a_press_is_told_by_the_kernel_and_is_a_short_one(pi: Machine, ask: Callable[[str], str]) -> None:
    pi.run(f"cat > /var/tmp/listen.py << 'END'\n{LISTEN.format(chip=CHIP, line=LINE)}\nEND")
    pi.run("cd /var/tmp/button && (PYTHONPATH=. timeout 400 python3 ../listen.py > ../said 2>&1 &)")
    pi.run("until grep -q ready /var/tmp/said; do sleep 0.2; done", timeout=200)
    pi.press_power_button()
    pi.run("until [ $(wc -l < /var/tmp/said) -ge 2 ]; do sleep 0.2; done", timeout=400)
    assert pi.run("cat /var/tmp/said").stdout.split("\n")[:2] == ["ready False", "2 short"]


def test_a_pin_that_is_not_there_is_told(ask: Callable[[str], str]) -> None:
    told = refusal(ask, 17)
    assert f"there is no GPIO 17 of {CHIP}, which has {LINES} lines" in told
    assert f"from 0 to {LINES - 1}" in told


def test_a_pin_in_use_is_told_with_its_user(pi: Machine, ask: Callable[[str], str]) -> None:
    pi.run("modprobe gpio_keys")
    try:
        told = refusal(ask, LINE)
    finally:
        pi.run("modprobe -r gpio_keys")
    assert f"GPIO {LINE} of {CHIP} is in use by" in told
    assert "session.button_pin" in told


def test_a_chip_that_no_pi_has_is_not_taken_for_its_header(ask: Callable[[str], str]) -> None:
    told = ask(
        "from pinna.errors import PinError\n"
        "from pinna.session.gpio import open_button\n"
        "try: open_button('', 17, 'ground')\n"
        "except PinError as error: print(error)\n"
    )
    assert "no header of a Raspberry Pi" in told
    assert CHIP in told
