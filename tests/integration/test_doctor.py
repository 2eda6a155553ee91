"""The doctor on this machine, which need not have a sound card: what it sees, and what it makes of that.

Where a machine has to be different, it is: other programs on PATH, other files mounted in a namespace.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.programs import program
from tests.support.waiting import eventually

from pinna.demo.sound import VirtualSound
from pinna.doctor.judge import judge, parse
from pinna.doctor.looking import SOURCE

PROBES = {
    "system",
    "usb",
    "power",
    "modules",
    "kernel_log",
    "cards",
    "nodes",
    "users",
    "alsa_files",
    "udev",
    "holders",
}
PROBES |= {
    "sound_servers",
    "mixer",
    "container",
    "unit",
    "agent",
    "hub",
    "ipc",
    "alsa",
    "portaudio",
    "pyaudio",
    "settings",
}
IN_NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")


def collect(*arguments: str, before: str = "", **environment: str) -> dict[str, Any]:
    """One snapshot, by the source piped into a bare Python; `before` is shell, run in a mount namespace."""
    command = [sys.executable, "-I", "-S", "-", *arguments]
    if before:
        command = [*IN_NAMESPACE, f'{before}; exec "$@"', "sh", *command]
    done = subprocess.run(
        command,
        input=SOURCE.read_bytes(),
        capture_output=True,
        timeout=100,
        check=True,
        env={**os.environ, **environment},
    )
    assert not done.stderr, done.stderr.decode()
    assert len(done.stdout) < 500_000
    return parse(done.stdout.decode())


def first_cause(snapshot: dict[str, Any], link: str) -> str:
    return next(one.cause for one in judge(snapshot) if one.link == link)


def script(folder: Path, name: str, text: str) -> str:
    """A program that is found first; the answer is the PATH that does it."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def doctor(*arguments: str, given: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pinna", "doctor", *arguments],
        input=given,
        capture_output=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_every_probe_answers_or_says_why_not() -> None:
    snapshot = collect()
    seen, unseen = PROBES & snapshot.keys(), snapshot["unseen"].keys()
    assert seen | unseen == PROBES
    assert not seen & unseen
    assert all(reason for reason in snapshot["unseen"].values())


def test_it_parses_on_python_3_9() -> None:
    ast.parse(SOURCE.read_text("utf-8"), feature_version=(3, 9))


def test_a_command_that_hangs_is_unseen_and_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    path = script(tmp_path, "systemctl", f"echo $$ >{pid}; while :; do sleep 1000; done")
    snapshot = collect("--seconds", "2", PATH=path)
    assert "unit" in snapshot["unseen"]
    number = int(pid.read_text())
    eventually(lambda: not Path(f"/proc/{number}").exists(), what="the command has ended")


def test_a_configuration_that_the_agent_runs_with_is_not_checked_again(tmp_path: Path) -> None:
    config = tmp_path / "pinna.toml"
    config.touch()

    def checked(state: str, began: float) -> bool:
        said = f"LoadState=loaded\nSubState={state}\nExecMainStartTimestampMonotonic={began * 1e6:.0f}\n"
        path = script(tmp_path, "systemctl", f"echo '{said}'")
        return "check" in collect("--deaf", "--config", str(config), PATH=path)["unit"]

    eventually(lambda: time.time() > config.stat().st_ctime, what="a later moment")
    now = time.monotonic()
    assert not checked("running", now)
    assert checked("running", now - 60)
    assert checked("auto-restart", now)


def test_of_a_long_kernel_log_the_end_is_kept(tmp_path: Path) -> None:
    trouble = "[  9.0] usb 1-1: device descriptor read/64, error -71"
    text = f"yes '[  1.0] usb 1-1: nothing to see here, but long' | head -c 10000000; echo; echo '{trouble}'"
    snapshot = collect(PATH=script(tmp_path, "dmesg", text))
    assert snapshot["kernel_log"][-1] == trouble


def test_binary_junk_in_the_kernel_log_is_text_in_the_snapshot(tmp_path: Path) -> None:
    text = r"printf '[  1.0] usb 1-1: Product: \377\000\033[2J\302\n[  2.0] usb 1-1: \n'"
    snapshot = collect(PATH=script(tmp_path, "dmesg", text))
    assert snapshot["kernel_log"] == ["[  1.0] usb 1-1: Product: \\xff\0\x1b[2J\\xc2", "[  2.0] usb 1-1:"]


def test_a_command_that_leaves_a_child_with_its_output_is_not_waited_for(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = f"sleep 300 & echo $! >{pid}; echo '[  1.0] usb 1-1: said'"
    try:
        assert collect(PATH=script(tmp_path, "dmesg", text))["kernel_log"] == ["[  1.0] usb 1-1: said"]
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_secrets_are_masked(tmp_path: Path) -> None:
    said = "[ 1.0] usb: token=s3cret-a password: s3cret-b http://user:s3cret-c@hub/ snd"
    snapshot = collect(PATH=script(tmp_path, "dmesg", f"echo '{said}'"))
    assert "usb: token=***" in snapshot["kernel_log"][0]
    assert "s3cret" not in json.dumps(snapshot)


def test_junk_in_the_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / ".asoundrc").write_bytes(b"pcm.x {\n\xff\xfe\0\x1b[2J }}}}")
    snapshot = collect(HOME=str(tmp_path))
    assert first_cause(snapshot, "alsa") == "alsa-syntax-error"
    (finding,) = (one for one in judge(snapshot) if one.link == "alsa")
    assert str(tmp_path / ".asoundrc") in finding.title


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\0", b'[hub]\nurl = "', b"audio = 1\n[audio]\n", b"x = " + b"[" * 60_000]
)
def test_junk_in_the_agents_configuration_is_named(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "pinna.toml").write_bytes(junk)
    told = collect("--deaf", "--config", str(tmp_path / "pinna.toml"))["settings"]
    assert str(tmp_path / "pinna.toml") in told["error"]


@pytest.mark.parametrize("name", ["pinna.toml", ".asoundrc"])
def test_a_pipe_in_a_files_place_holds_nobody_up(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    snapshot = collect("--seconds=5", "--config", str(tmp_path / "pinna.toml"), HOME=str(tmp_path))
    assert "cards" in snapshot or "cards" in snapshot["unseen"]


def test_a_hostile_file_name_moves_no_cursor(tmp_path: Path) -> None:
    """A folder where a file should be, whose name clears the screen and is no UTF-8."""
    name = b"60-\x1b[2J\xff'; reboot; '.conf"
    os.mkdir(os.path.join(os.fsencode(tmp_path), name))  # noqa: PTH102, PTH118  (pathlib has no such names)
    snapshot = collect(before=f"mount --bind {tmp_path} /etc/alsa/conf.d")
    assert first_cause(snapshot, "alsa") == "alsa-conf-is-a-folder"
    shown = doctor("--snapshot", "-", given=json.dumps(snapshot).encode())
    assert "\\x1b[2J" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "rmdir" not in shown.stdout


def test_portaudio_may_abort() -> None:
    """Without alsa.conf PortAudio 19.6 ends the process that starts it."""
    snapshot = collect(ALSA_CONFIG_PATH="/nonexistent/alsa.conf")
    assert snapshot["portaudio"]["signal"] == "SIGABRT"
    assert first_cause(snapshot, "alsa") == "alsa-conf-missing"


def test_without_proc() -> None:
    snapshot = collect(before="mount -t tmpfs none /proc")
    assert snapshot["system"]["proc"] is False
    assert {"modules", "ipc", "holders"} <= snapshot["unseen"].keys()
    assert all(one.status != "ok" for one in judge(snapshot) if one.link in ("driver", "agent", "hub"))


def test_without_alsa() -> None:
    library = next(Path("/usr/lib").glob("*-linux-*/libasound.so.2")).resolve()
    snapshot = collect(before=f"mount --bind /dev/null {library}")
    assert first_cause(snapshot, "alsa") == "libasound-missing"


def test_an_unknown_user_is_an_error() -> None:
    done = doctor("--user", "nobody-has-this-name")
    assert done.returncode == 14
    assert "nobody-has-this-name" in done.stderr + done.stdout


@pytest.fixture
def silent() -> Iterator[VirtualSound]:
    with VirtualSound() as sound:
        yield sound


def test_sound_is_heard_and_silence_is_told_from_it(
    silent: VirtualSound, voices: dict[str, Path], tmp_path: Path
) -> None:
    """ALSA's default is a sound server's microphone: first nobody speaks, then somebody does."""
    (silent.folder / ".asoundrc").write_text((silent.folder / "asound.conf").read_text())
    environment = {**silent.environment, "ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf"}

    def status() -> tuple[str, str]:
        # No cards, hence no permission to judge: the sound itself is what this is about.
        found = {one.link: one for one in judge({**collect(**environment), "nodes": None})}
        assert found["sharing"].status == "ok", found["sharing"]
        return found["sound"].status, found["sound"].cause

    assert status() == ("broken", "digital-silence")
    with program(["pinna.demo.room", str(voices["near"])], silent.environment, tmp_path, "room"):
        eventually(lambda: status() == ("ok", ""), what="the voice is heard")


class TestCommand:
    def test_what_was_saved_is_judged_alike(self, tmp_path: Path) -> None:
        saved = tmp_path / "case.json"
        first = doctor("--save", str(saved), "--json")
        again = doctor("--snapshot", str(saved), "--json")
        assert first.returncode == again.returncode
        assert json.loads(first.stdout) == json.loads(again.stdout)
        assert saved.stat().st_mode & 0o777 == 0o600, "names of users and programs are in it"

    @pytest.mark.parametrize("place", ["/proc/case.json", "/dev/full/case.json", "."])
    def test_what_cannot_be_saved_says_so(self, place: str) -> None:
        done = doctor("--save", place, "--deaf")
        assert done.returncode == 2
        assert f"--save: {place} cannot be written" in done.stderr
        assert "Traceback" not in done.stderr

    def test_ssh_options_that_no_shell_takes_are_refused(self) -> None:
        done = doctor("--host", "nobody", "--ssh", "-o 'x")
        assert done.returncode == 2
        assert "No closing quotation" in done.stderr

    @pytest.mark.parametrize("given", [b"", b"\xff\0garbage", b'{"schema": 1', b"[]"])
    def test_garbage_is_no_snapshot(self, given: bytes) -> None:
        done = doctor("--snapshot", "-", given=given)
        assert done.returncode == 12
        assert "--save" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_file_without_end_is_no_snapshot(self) -> None:
        assert doctor("--snapshot", "/dev/zero").returncode == 12

    def test_a_missing_file_is_no_snapshot(self, tmp_path: Path) -> None:
        done = doctor("--snapshot", str(tmp_path / "none"))
        assert (done.returncode, done.stdout) == (12, "")

    def test_an_error_message_is_explained(self) -> None:
        done = doctor("--explain", "-10000")
        assert done.returncode == 0
        assert "portaudio-not-initialized" in done.stdout

    def test_an_unknown_cause_names_those_there_are(self) -> None:
        done = doctor("--explain", "gremlins")
        assert done.returncode == 2
        assert "microphone-muted" in done.stderr

    def test_a_host_that_does_not_answer_is_told_apart_from_a_broken_one(self) -> None:
        done = doctor("--host", "pi@127.0.0.1", "--ssh", "-p 1", "--json")
        assert done.returncode == 14
        (report,) = json.loads(done.stdout)
        assert "no way into" in report["error"]

    def test_a_shell_that_chatters_does_no_harm(self, tmp_path: Path) -> None:
        ssh = 'while [ "$1" != -- ]; do shift; done; shift 2; echo "Welcome to the kitchen!"; exec sh -c "$*"'
        done = doctor("--host", "kitchen", "--json", PATH=script(tmp_path, "ssh", ssh))
        (report,) = json.loads(done.stdout)
        assert report["place"] == "kitchen"
        assert report["findings"]

    def test_watching_tells_what_breaks_and_what_heals(self, tmp_path: Path) -> None:
        configuration = tmp_path / ".asoundrc"
        environment = {**os.environ, "HOME": str(tmp_path)}
        with program(["pinna", "doctor", "--watch"], environment, tmp_path, "watch") as running:
            eventually(lambda: "ALSA configuration" in running.said(), what="the first picture")
            configuration.write_text("pcm.x {")
            eventually(lambda: "ALSA configuration: BROKEN" in running.said(), what="the fault is told")
            configuration.unlink()
            eventually(lambda: "ALSA configuration: ok" in running.said(), what="the healing is told")
            assert running.stop(signal.SIGINT) == 130
