"""Findings from snapshots of real machines, changed where a fault cannot be had on a virtual Pi."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinna.doctor.causes import LINKS
from pinna.doctor.finding import Finding
from pinna.doctor.judge import first_broken, judge, parse
from pinna.errors import SnapshotError

Snapshot = dict[str, Any]
HERE = Path(__file__).parent / "snapshots"
BROKEN = sorted(HERE.glob("broken-*.json"))


def cause(data: Snapshot, host: Snapshot | None = None) -> str:
    found = first_broken(judge(data, host))
    return found.cause if found else ""


def by_link(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.link: finding for finding in findings}


def test_a_healthy_machine_is_healthy(healthy: Snapshot) -> None:
    assert {one.link: one.status for one in judge(healthy)} == {
        **dict.fromkeys(LINKS, "ok"),
        "power": "not applicable",
    }


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem.removeprefix("broken-"))
def test_what_was_seen_of_a_broken_machine_names_the_cause(path: Path) -> None:
    """Each was saved while the fault suite had a virtual Pi broken in just this way."""
    assert cause(parse(path.read_text())) == path.stem.removeprefix("broken-")


@pytest.mark.parametrize(
    "probe", ["usb", "cards", "nodes", "alsa_files", "alsa", "portaudio", "unit", "agent"]
)
def test_what_was_not_seen_is_never_ok(healthy: Snapshot, probe: str) -> None:
    full, less = by_link(judge(healthy)), copy.deepcopy(healthy)
    del less[probe]
    less["unseen"][probe] = "it did not answer"
    partial = by_link(judge(less))
    assert first_broken(tuple(partial.values())) is None
    unseen = [link for link in LINKS if partial[link].status != full[link].status]
    assert unseen
    assert all(partial[link].status == "not seen" for link in unseen)
    assert "it did not answer" in {partial[link].title for link in unseen}


def test_what_needs_a_broken_link_waits_for_it(healthy: Snapshot) -> None:
    """Unplugged: nothing records, plays, or streams; one cause is named, not six."""
    healthy["usb"], healthy["cards"] = [], []
    healthy["alsa"]["listened"] = {
        "pcm": "shared_mic",
        "errno": "ENODEV",
        "error": "No such device",
        "at": "open",
    }
    healthy["portaudio"]["devices"] = []
    findings = judge(healthy)
    assert [one.cause for one in findings if one.status == "broken"] == ["no-usb-microphone"]
    waiting = {one.link: one.because for one in findings if one.status == "waits"}
    assert waiting["card"] == waiting["sharing"] == waiting["portaudio"] == "usb"


# Causes that the fault suite does not break a machine for: emulation has not the hardware, or no package
# mirror to install the cure from, or the fault is a program's. A real snapshot, changed as it would differ.


def low_voltage(data: Snapshot) -> None:
    data["power"] = {"sensor": "rpi_volt", "low": "1"}


def low_voltage_in_the_log(data: Snapshot) -> None:
    data["kernel_log"].append("[  100.0] hwmon hwmon1: Undervoltage detected!")


def overcurrent(data: Snapshot) -> None:
    data["kernel_log"].append("[  100.0] usb usb1-port1: over-current condition")


def bad_cable(data: Snapshot) -> None:
    data["usb"], data["cards"] = [], []
    data["kernel_log"].append("[  100.0] usb 1-1: device descriptor read/64, error -71")


def speaker_only(data: Snapshot) -> None:
    data["cards"][0].update(records=False, id="speaker")


def no_driver_in_the_kernel(data: Snapshot) -> None:
    unbound(data)
    data["modules"].update(loaded=["snd"], has_usb_audio=False)


def unbound(data: Snapshot) -> None:
    data["cards"] = []
    for interface in data["usb"][0]["interfaces"]:
        interface["driver"] = ""


def no_libasound(data: Snapshot) -> None:
    data["alsa"] = {"missing": "libasound.so.2: cannot open shared object file: No such file or directory"}


def no_alsa_conf(data: Snapshot) -> None:
    data["alsa_files"][0] = {"path": "/usr/share/alsa/alsa.conf", "kind": "missing"}


def no_plugin(data: Snapshot) -> None:
    line = "ALSA lib dlmisc.c:340:() Cannot open shared library libasound_module_pcm_pulse.so"
    data["alsa"]["said"] = {"listened": [line]}


def refused(data: Snapshot, errno: str, *said: str, at: str = "open") -> None:
    listened = {"pcm": "shared_mic", "frames": 0, "errno": errno, "error": errno, "at": at}
    data["alsa"]["listened"] = listened
    data["alsa"]["said"] = {"listened": [f"ALSA lib {line}" for line in said]}


def pulseaudio(data: Snapshot) -> None:
    refused(data, "EBUSY", "pcm_dsnoop.c:567:(snd_pcm_dsnoop_open) unable to open slave")
    data["holders"]["list"] = [
        {
            "pid": 700,
            "name": "pulseaudio",
            "user": "pi",
            "unit": "",
            "nodes": ["/dev/snd/pcmC0D0c"],
            "ipc": "",
        }
    ]


def rate_of_hardware(data: Snapshot) -> None:
    refused(data, "EINVAL", at="set up")
    data["alsa"]["settings"] = "mic_rate 16000\nmic_channels 1\n"


def channels_of_hardware(data: Snapshot) -> None:
    refused(data, "EINVAL", at="set up")
    data["alsa"]["settings"] = "mic_rate 48000\nmic_channels 2\n"


def unknown(data: Snapshot) -> None:
    refused(data, "ENOSYS")


def portaudio_gone(data: Snapshot) -> None:
    data["portaudio"] = {"missing": "libportaudio.so.2: cannot open shared object file"}


def portaudio_dies(data: Snapshot) -> None:
    data["portaudio"] = {"signal": "SIGABRT", "version": "PortAudio V19.6.0"}


def portaudio_lists_nothing(data: Snapshot) -> None:
    data["portaudio"]["devices"] = []


def pyaudio_broken(data: Snapshot) -> None:
    data["pyaudio"] = {"installed": "/venv/pyaudio", "import_error": "No module named 'pyaudio._portaudio'"}


def library_path(data: Snapshot) -> None:
    data["portaudio"]["libraries"][0]["path"] = "/mnt/host/libasound.so.2.0.0"
    data["system"]["environment"] = {"LD_LIBRARY_PATH": "/mnt/host"}


def agent_fails(data: Snapshot) -> None:
    data["unit"].update(ActiveState="activating", SubState="auto-restart", ExecMainStatus="1")


def agent_unwell(data: Snapshot) -> None:
    part = {"state": "failed", "reason": "no echo canceller", "hint": "Install libspeexdsp1"}
    data["agent"]["components"]["echo"] = part


def without_hub(data: Snapshot, **hub: Any) -> None:
    data["agent"]["connected"] = False
    data["hub"].update(hub)


def certificate(data: Snapshot) -> None:
    without_hub(data, kind="tls", error="CERTIFICATE_VERIFY_FAILED")


def no_udp(data: Snapshot) -> None:
    without_hub(data, status=200)
    data["agent"]["components"]["link"] = {"state": "failed", "reason": "no media within 10 s", "hint": ""}


CHANGED: dict[str, tuple[Callable[[Snapshot], None], ...]] = {
    "undervoltage": (low_voltage, low_voltage_in_the_log),
    "usb-overcurrent": (overcurrent,),
    "usb-unstable": (bad_cable,),
    "card-cannot-record": (speaker_only,),
    "driver-missing": (no_driver_in_the_kernel,),
    "libasound-missing": (no_libasound,),
    "alsa-conf-missing": (no_alsa_conf,),
    "alsa-plugin-missing": (no_plugin,),
    "sound-server-holds-microphone": (pulseaudio,),
    "rate-unsupported": (rate_of_hardware,),
    "channels-unsupported": (channels_of_hardware,),
    "microphone-does-not-open": (unknown,),
    "portaudio-missing": (portaudio_gone,),
    "portaudio-crashes": (portaudio_dies,),
    "portaudio-sees-nothing": (portaudio_lists_nothing,),
    "pyaudio-of-another-python": (pyaudio_broken,),
    "foreign-libasound": (library_path,),
    "agent-fails": (agent_fails,),
    "agent-unwell": (agent_unwell,),
    "hub-certificate": (certificate,),
    "hub-no-session": (no_udp,),
}


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in CHANGED.items() for change in changes]
)
def test_a_changed_machine_has_the_cause(
    healthy: Snapshot, name: str, change: Callable[[Snapshot], None]
) -> None:
    change(healthy)
    assert cause(healthy) == name


def test_a_users_own_sound_server_is_stopped_as_that_users(healthy: Snapshot) -> None:
    pulseaudio(healthy)
    healthy["holders"]["list"][0].update(name="pipewire", unit="pipewire.service", users_own=True)
    found = first_broken(judge(healthy))
    assert found
    assert found.commands == ("systemctl --user --machine=pi@ stop pipewire.service",)


def test_a_supply_that_recovered_is_no_cause(healthy: Snapshot) -> None:
    low_voltage_in_the_log(healthy)
    healthy["kernel_log"].append("[  101.0] hwmon hwmon1: Voltage normalised")
    assert cause(healthy) == ""


def test_a_pi_without_a_sensor_is_not_called_well_supplied(healthy: Snapshot) -> None:
    healthy["system"]["model"] = "Raspberry Pi 3 Model B Rev 1.2"
    assert by_link(judge(healthy))["power"].status == "not seen"


def test_a_library_of_another_release_in_a_container(healthy: Snapshot) -> None:
    inside = copy.deepcopy(healthy)
    inside["system"]["container"] = "docker"
    refused(inside, "EINVAL", "pcm_dsnoop.c:500:(snd_pcm_dsnoop_open) unable to create IPC shm instance")
    inside["alsa"]["version"] = "1.2.8"
    found = first_broken(judge(inside, healthy))
    assert found
    assert found.cause == "libasound-differs"
    assert "1.2.8" in found.title
    assert "1.2.14" in found.title


class TestBadInput:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            '{"schema": 1}',
            '{"schema": 2, "subject": {}}',
            '{"schema": 1, "subj',
            "\0",
            "[" * 9999,
        ],
    )
    def test_what_is_no_snapshot_is_an_error_with_a_cure(self, text: str) -> None:
        with pytest.raises(SnapshotError, match="--save"):
            parse(text)

    def test_every_truncation_is_an_error(self, healthy: Snapshot) -> None:
        text = json.dumps(healthy)
        for end in range(0, len(text), 97):
            with pytest.raises(SnapshotError):
                parse(text[:end])

    @given(data=st.data())
    @settings(max_examples=300, deadline=None)
    def test_damage_anywhere_is_judged_and_never_makes_more_ok(self, data: st.DataObject) -> None:
        """One value of a healthy snapshot becomes something else: no exception, eleven findings."""
        snapshot = json.loads((HERE / "healthy.json").read_text())
        at: Any = snapshot
        while True:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            inner = at[key]
            if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
                break
            at = inner
        scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
        at[key] = data.draw(
            st.recursive(scalars, lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=5)
        )
        assert [one.link for one in judge(snapshot)] == list(LINKS)


def i2s(data: Snapshot) -> None:
    data["usb"] = []
    data["cards"][0]["usb"] = ""


def plain(data: Snapshot) -> None:
    """A machine where the playbook has not been: its default is the only card."""
    data["udev"]["rule"] = False
    data["alsa_files"] = data["alsa_files"][:1]
    data["alsa"].update(pcms=["hw", "default"], definitions={"default": "type hw"}, settings="")
    data["alsa"]["listened"]["pcm"] = "default"
    data["cards"][0]["id"] = "SH04"
    data["unit"] = {"LoadState": "not-found"}
    for probe in ("agent", "hub"):
        data[probe] = None


def pipewire_elsewhere(data: Snapshot) -> None:
    data["sound_servers"] = [{"name": "pipewire", "pid": 5}]
    data["holders"]["list"].append(
        {"pid": 5, "name": "pipewire", "nodes": ["/dev/snd/controlC0"], "unit": ""}
    )


def second_card(data: Snapshot) -> None:
    other = {
        "number": 1,
        "id": "vc4hdmi",
        "usb": "",
        "records": False,
        "plays": True,
        "capture": {},
        "playback": {},
    }
    data["cards"].append(other)
    data["nodes"]["nodes"]["/dev/snd/controlC1"] = data["nodes"]["nodes"]["/dev/snd/controlC0"]


def second_microphone(data: Snapshot) -> None:
    data["cards"].insert(0, {**data["cards"][0], "number": 1, "id": "webcam", "usb": "1-2"})
    data["nodes"]["nodes"]["/dev/snd/controlC1"] = data["nodes"]["nodes"]["/dev/snd/controlC0"]


def sensor(data: Snapshot) -> None:
    data["power"] = {"sensor": "rpi_volt", "low": "0"}
    data["system"]["model"] = "Raspberry Pi 4 Model B Rev 1.5"


def bookworm(data: Snapshot) -> None:
    data["system"].update(codename="bookworm", python="3.11.2")
    data["alsa"]["version"] = "1.2.8"


def no_pyaudio(data: Snapshot) -> None:
    data["pyaudio"] = {"installed": ""}


def no_amixer(data: Snapshot) -> None:
    data["mixer"] = None
    data["unseen"]["mixer"] = "the mixer of card 0: amixer: No such file or directory"


def no_kernel_log(data: Snapshot) -> None:
    data["kernel_log"] = None
    data["unseen"]["kernel_log"] = "the kernel's log: Operation not permitted"


def replugged(data: Snapshot) -> None:
    data["kernel_log"] += [f"[ {n}.0] usb 1-1: USB disconnect, device number {n}" for n in range(9)]


def agent_reconnected(data: Snapshot) -> None:
    data["unit"]["NRestarts"] = "3"


@pytest.mark.parametrize(
    "change",
    [
        i2s,
        plain,
        pipewire_elsewhere,
        second_card,
        second_microphone,
        sensor,
        bookworm,
        no_pyaudio,
        no_amixer,
        no_kernel_log,
        replugged,
        agent_reconnected,
    ],
)
def test_a_healthy_machine_of_another_kind_is_healthy(
    healthy: Snapshot, change: Callable[[Snapshot], None]
) -> None:
    change(healthy)
    assert {one.status for one in judge(healthy)} <= {"ok", "not applicable"}
