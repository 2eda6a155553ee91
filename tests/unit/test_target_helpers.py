"""What tests/target makes of a host's answers; tests/target itself needs a device."""

from __future__ import annotations

import array
import json
import math
import os
import subprocess
import sys
import threading
import zlib
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import testinfra
from tests.target.contact import Contact, Unreachable, packed
from tests.target.hub import Hub, HubSilent, frames
from tests.target.proof import must, must_be_sound
from tests.target.remote import facts, listen


def pcm(*samples: int) -> bytearray:
    return bytearray(array.array("h", samples).tobytes())


def test_the_level_of_a_sine_is_3_db_below_its_peak() -> None:
    sine = [round(16384 * math.sin(2 * math.pi * 440 * n / 48000)) for n in range(48000)]
    heard = listen.measured(pcm(*sine))
    assert heard["frames"] == 48000
    assert heard["rms_dbfs"] == pytest.approx(-9.0, abs=0.05)
    assert heard["peak"] == 16384
    assert heard["clipped"] == 0


@pytest.mark.parametrize("constant", [0, -300])
def test_what_does_not_move_is_digital_silence(constant: int) -> None:
    assert listen.measured(pcm(*[constant] * 100))["rms_dbfs"] is None


def test_samples_at_full_scale_count_as_clipped() -> None:
    assert listen.measured(pcm(32767, -32768, -32767, 32766, 0))["clipped"] == 3


def test_half_a_sample_at_the_end_is_none() -> None:
    assert listen.measured(pcm(1, 2) + b"\1")["frames"] == 2
    assert listen.measured(bytearray(b"\1"))["frames"] == 0


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ({"error": "Device or resource busy", "frames": 0}, "busy"),
        ({"frames": 0}, "nothing"),
        ({"frames": 96000, "rms_dbfs": None, "clipped": 0}, "digital silence"),
        ({"frames": 96000, "rms_dbfs": -90.0, "clipped": 0}, "-90.0 dBFS"),
        ({"frames": 96000, "rms_dbfs": -3.0, "clipped": 50000}, "full scale"),
    ],
)
def test_what_is_no_sound_fails_and_says_why(heard: dict[str, object], said: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=said):
        must_be_sound("arecord", heard)


def test_a_failure_has_cause_and_cure() -> None:
    must(True, "never said")
    with pytest.raises(pytest.fail.Exception, match=r"^the door is shut\. Open it\.$"):
        must(False, "the door is shut", "Open it.")


def test_units_are_told_apart() -> None:
    shown = facts.units("Id=a\nActiveState=active\n\nId=b\nActiveState=failed\nResult=exit-code\n")
    first, second = facts.UNITS[:2]
    assert shown == {
        first: {"Id": "a", "ActiveState": "active"},
        second: {"Id": "b", "ActiveState": "failed", "Result": "exit-code"},
    }


def test_exposure_is_the_overall_one() -> None:
    said = (
        "  ProtectHome=   Service has no access   0.1\n\n→ Overall exposure level for x.service: 1.4 OK :-)\n"
    )
    assert facts.exposure(said) == 1.4
    assert facts.exposure("Unit x.service not found.") is None


def test_a_hub_that_does_not_know_the_device_has_no_frames_of_it() -> None:
    health = {"devices": {"kitchen": {"frames_received": 7}}}
    assert (frames(health, "kitchen"), frames(health, "hall"), frames({}, "hall")) == (7, 0, 0)


class Says(BaseHTTPRequestHandler):
    """Answers every GET with `body`."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Into no test's output."""


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"status": "ok"}'])
def test_what_answers_unlike_a_hub_is_none(body: bytes) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("", (Says,), {"body": body})) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            with pytest.raises(HubSilent, match=r"Is --hub-url right\?$"):
                Hub(f"http://127.0.0.1:{server.server_port}", None).health()
        finally:
            server.shutdown()
            serving.join()


def test_a_host_that_says_more_than_it_was_asked_for_is_told_why(tmp_path: Path) -> None:
    """Here it is one that prints when its python3 ends, as a login shell's files may."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\n{sys.executable} "$@"\necho "Goodbye."\n')
    python.chmod(0o755)
    host = testinfra.get_host("local://")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        patch.setattr("tests.target.contact._AS_ROOT", "")
        with pytest.raises(Unreachable, match=r"answers 'Goodbye.', which is no JSON.*bashrc"):
            Contact(host, tmp_path / "control").ask("boot")


def test_a_key_beside_the_inventory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As inventory.ini names the one that `make pi` makes."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # ansible-inventory
    inventory = tmp_path / "inventory.ini"
    inventory.write_text(
        "[pinna]\npi ansible_host=127.0.0.1\n[pinna:vars]\n"
        "ansible_ssh_private_key_file={{ inventory_dir }}/build/key\n"
    )
    host = testinfra.get_host("ansible://pi", ansible_inventory=str(inventory))
    contact = Contact(host, tmp_path / "socket")
    assert contact._ssh is not None
    assert contact._ssh.ssh_identity_file == str(tmp_path / "build/key")


def test_a_packed_program_runs_in_a_bare_python() -> None:
    program = zlib.decompress(b64decode(packed("facts"))).decode()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert {"running", "system", "files", "units", "user"} <= json.loads(done.stdout).keys()
