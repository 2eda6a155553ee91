"""Unplugging, replugging and misbehaving devices, as a Pi's kernel sees them."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.virtual_pi.acoustics import read_wav, tone
from tests.virtual_pi.machine import Machine
from tests.virtual_pi.plug import PATIENT, attach, wait_gone
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04
from tests.virtual_pi.uac1 import Identity

RECORD = f"arecord -q -D hw:SH04 -f S16_LE -r 48000 -c 1 {PATIENT}"


def start_recording(pi: Machine, device: Sh04) -> None:
    """An arecord that runs on in the guest; returns when samples flow."""
    pi.run(f"({RECORD} /tmp/fault.wav; echo $? > /tmp/code) >/tmp/said 2>&1 </dev/null &")
    wait_for_samples(pi, device, 500)


def wait_for_samples(pi: Machine, device: Sh04, blocks: int) -> None:
    """Until the device delivered that many blocks more."""
    wanted, deadline = len(device.delivered) + blocks, time.monotonic() + 60
    while len(device.delivered) < wanted:
        assert time.monotonic() < deadline, pi.run("cat /tmp/said").stdout
        time.sleep(0.05)


def exit_code(pi: Machine) -> int:
    return int(
        pi.run("for i in $(seq 300); do [ -s /tmp/code ] && break; sleep 0.1; done; cat /tmp/code").stdout
    )


def test_unplug_ends_a_recording_with_an_error(pi: Machine, server: UsbipServer) -> None:
    device = Sh04(source=tone(440.0))
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    pi.run("rm -f /tmp/code")
    start_recording(pi, device)
    server.unplug(busid)
    assert exit_code(pi) != 0
    wait_gone(pi, card)
    assert "SH04" not in pi.run("cat /proc/asound/cards").stdout


def test_replug_ten_times(pi: Machine, server: UsbipServer) -> None:
    device = Sh04(source=tone(440.0))
    for _ in range(10):
        busid = server.plug(device)
        _, card = attach(pi, server, busid)
        pi.run(f"{RECORD} -d 1 /tmp/again.wav")
        server.unplug(busid)
        wait_gone(pi, card)


def test_replug_on_another_port_with_another_serial(pi: Machine, server: UsbipServer) -> None:
    for port, serial in ((0, "A1"), (3, "A1"), (3, "B2")):
        busid = server.plug(Sh04(Identity(serial=serial)))
        taken, card = attach(pi, server, busid, port=port)
        assert taken == port
        usb = pi.run(f"readlink -f /sys/class/sound/card{card}/device/..").stdout.strip()
        assert usb.endswith(f"-{port + 1}")
        assert pi.run(f"cat {usb}/serial").stdout.strip() == serial
        server.unplug(busid)
        wait_gone(pi, card)


def test_a_refused_rate_is_refused(pi: Machine, server: UsbipServer) -> None:
    device = Sh04(Identity(microphone_rates=(16_000, 48_000)))
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    device.refused_rates = {16_000}
    pi.run("arecord -q -D hw:SH04 -f S16_LE -r 16000 -c 1 -d 1 /tmp/no.wav", check=False)
    assert device.rates[1] == 48_000
    device.refused_rates = set()
    pi.run(f"arecord -q -D hw:SH04 -f S16_LE -r 16000 -c 1 {PATIENT} -d 1 /tmp/yes.wav")
    assert device.rates[1] == 16_000
    server.unplug(busid)
    wait_gone(pi, card)


@pytest.mark.parametrize("fault", ["frozen", "stalled"])
def test_a_dead_stream_makes_arecord_give_up(pi: Machine, server: UsbipServer, fault: str) -> None:
    device = Sh04(source=tone(440.0))
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    pi.run("rm -f /tmp/code")
    start_recording(pi, device)
    setattr(device, fault, True)
    assert exit_code(pi) != 0  # "read error: Input/output error", a little over a buffer's length later
    setattr(device, fault, False)
    server.unplug(busid)
    wait_gone(pi, card)


@pytest.mark.parametrize("fault", ["lose", "short", "babble"])
def test_a_bad_stream_is_seen_in_the_recording(
    pi: Machine, server: UsbipServer, tmp_path: Path, fault: str
) -> None:
    """The samples before the fault are right, then they are not, and the device goes on."""
    device = Sh04(source=tone(440.0))
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    pi.run("rm -f /tmp/code")
    start_recording(pi, device)
    if fault == "lose":
        device.lose(123.4)
    else:
        setattr(device, fault, 0.2)
    wait_for_samples(pi, device, 1000)
    device.babble, device.short = 0.0, 0.0
    pi.run("pkill -INT arecord", check=False)
    exit_code(pi)
    signal, rate = read_wav(pi.get("/tmp/fault.wav", tmp_path / "fault.wav"))
    step = signal[2:, 0] - 2 * np.cos(2 * np.pi * 440 / rate) * signal[1:-1, 0] + signal[:-2, 0]
    seams = np.flatnonzero(np.abs(step) > 0.002)
    assert len(seams) > 0
    assert seams[0] > 4800
    pi.run(f"{RECORD} -d 1 /tmp/after.wav")
    server.unplug(busid)
    wait_gone(pi, card)


def test_drift_changes_the_number_of_samples(pi: Machine, server: UsbipServer) -> None:
    device = Sh04(ppm=5000.0)
    busid = server.plug(device)
    _, card = attach(pi, server, busid)
    pi.run(f"{RECORD} -d 4 /tmp/drift.wav")
    blocks = pairwise(list(device.delivered)[:3000])
    spans = [(later - at, len(block)) for (at, block), (later, _) in blocks]
    spans = [(span, samples) for span, samples in spans if span < 0.05]  # else a host that was too busy
    seconds, samples = (sum(column) for column in zip(*spans, strict=True))
    assert seconds > 1
    assert samples / seconds == pytest.approx(48_000 * 1.005, rel=0.0005)
    server.unplug(busid)
    wait_gone(pi, card)
