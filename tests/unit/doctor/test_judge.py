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
    """Each was saved while a virtual Pi was broken in just this way."""
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


# Causes that nothing breaks a machine for yet, be it that emulation has not the hardware: a real snapshot,
# changed as one of a machine with this fault would differ.


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


def unplugged(data: Snapshot) -> None:
    data["usb"], data["cards"] = [], []


def deauthorized(data: Snapshot) -> None:
    data["usb"][0].update(authorized="0", audio=False, interfaces=[])
    data["cards"] = []


def sleepy(data: Snapshot) -> None:
    data["usb"][0]["control"] = "auto"


def blacklisted(data: Snapshot) -> None:
    not_loaded(data)
    line = {"file": "/etc/modprobe.d/x.conf", "line": 3, "text": "blacklist snd_usb_audio"}
    data["modules"]["forbidden"] = [line]


def not_loaded(data: Snapshot) -> None:
    unbound(data)
    data["modules"]["loaded"] = ["snd"]


def updated_kernel(data: Snapshot) -> None:
    not_loaded(data)
    data["modules"].update(folder=False, kernels=["6.12.200+deb13-arm64"], has_usb_audio=False)


def misnamed(data: Snapshot) -> None:
    data["cards"][0]["id"] = "SH04"


def without_rule(data: Snapshot) -> None:
    misnamed(data)
    data["udev"]["rule"] = False


def by_number(data: Snapshot) -> None:
    mine = {
        "path": "/etc/alsa/conf.d/60-mine.conf",
        "kind": "file",
        "mode": "0644",
        "cards": ["7"],
        "defines": [],
    }
    data["alsa_files"].append(mine)


def unreadable(data: Snapshot) -> None:
    graph(data)["mode"] = "0600"


def graph(data: Snapshot) -> Snapshot:
    return next(file for file in data["alsa_files"] if file["path"] == "/etc/asound.conf")


def no_control_node(data: Snapshot) -> None:
    refused(data, "ENOENT")
    del data["nodes"]["nodes"]["/dev/snd/controlC0"]


def not_in_audio(data: Snapshot) -> None:
    refused(data, "ENOENT", "confmisc.c:165:(snd_config_get_card) Cannot get card index for mic")
    data["subject"].update(user="guest", groups=[1000], group_names=["guest"])
    for node in data["nodes"]["nodes"].values():
        node.update(allows=False, open="EACCES")


def group_of_nodes(data: Snapshot) -> None:
    refused(data, "EACCES")
    for node in data["nodes"]["nodes"].values():
        node.update(allows=False, group="root", gid=0)


def held(data: Snapshot) -> None:
    refused(data, "EBUSY", "pcm_dsnoop.c:567:(snd_pcm_dsnoop_open) unable to open slave")
    space = data["ipc"]["namespace"]
    holder = {
        "pid": 700,
        "name": "arecord",
        "user": "pi",
        "unit": "",
        "nodes": ["/dev/snd/pcmC0D0c"],
        "ipc": space,
    }
    data["holders"]["list"] = [holder]


def elsewhere(data: Snapshot) -> None:
    held(data)
    data["holders"]["list"][0]["ipc"] = "ipc:[1]"


def without_perm(data: Snapshot) -> None:
    left_over(data)
    definitions = data["alsa"]["definitions"]
    definitions["shared_mic"] = definitions["shared_mic"].replace("\tipc_perm 432\n", "")


def left_over(data: Snapshot) -> None:
    refused(data, "EACCES", "pcm_dsnoop.c:488:(snd_pcm_dsnoop_open) unable to create IPC semaphore")
    for one in data["ipc"]["objects"]:
        one.update(mode="0600", owner="root", group="root")


def muted(data: Snapshot) -> None:
    data["alsa"]["listened"].update(frames=96000, swing=0)
    data["mixer"]["controls"] = {"Mic": "Mono: Capture 0 [0%] [off]"}


def stopped(data: Snapshot) -> None:
    data["unit"].update(ActiveState="inactive", SubState="dead")


def wrong_key(data: Snapshot) -> None:
    data["unit"]["check"] = {"code": 3, "out": "", "err": "pinna: unknown key `surprise`"}


def silent_agent(data: Snapshot) -> None:
    data["agent"] = {"error": "http://127.0.0.1:8081/health: timed out"}


CHANGED: dict[str, tuple[Callable[[Snapshot], None], ...]] = {
    "no-usb-microphone": (unplugged,),
    "usb-deauthorized": (deauthorized,),
    "usb-autosuspend": (sleepy,),
    "driver-blacklisted": (blacklisted,),
    "driver-not-loaded": (not_loaded,),
    "driver-unbound": (unbound,),
    "kernel-replaced": (updated_kernel,),
    "card-not-named": (misnamed,),
    "naming-rule-missing": (without_rule,),
    "card-number-changed": (by_number,),
    "alsa-conf-unreadable": (unreadable,),
    "device-nodes-missing": (no_control_node,),
    "user-not-in-audio": (not_in_audio,),
    "node-permissions": (group_of_nodes,),
    "microphone-held": (held,),
    "ipc-namespaces-differ": (elsewhere,),
    "ipc-perm-missing": (without_perm,),
    "stale-ipc-objects": (left_over,),
    "microphone-muted": (muted,),
    "agent-stopped": (stopped,),
    "agent-configuration": (wrong_key,),
    "agent-silent": (silent_agent,),
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


def inside_of(host: Snapshot) -> Snapshot:
    inside = copy.deepcopy(host)
    inside["system"]["container"] = "docker"
    return inside


def no_dev_snd(data: Snapshot) -> None:
    refused(data, "ENOENT")
    data["nodes"] = {"folder": None, "nodes": {}}


def older_dev_snd(data: Snapshot) -> None:
    refused(data, "ENOENT")
    data["nodes"]["nodes"] = {}


def no_device_rule(data: Snapshot) -> None:
    refused(data, "EPERM")
    data["nodes"]["nodes"]["/dev/snd/controlC0"]["open"] = "EPERM"


IN_CONTAINERS = {
    "container-without-devices": no_dev_snd,
    "container-old-devices": older_dev_snd,
    "container-device-rule": no_device_rule,
    "container-without-group": not_in_audio,
    "ipc-namespaces-differ": elsewhere,
}


@pytest.mark.parametrize("name", IN_CONTAINERS)
def test_a_container_started_the_wrong_way_has_the_cause(healthy: Snapshot, name: str) -> None:
    inside = inside_of(healthy)
    IN_CONTAINERS[name](inside)
    assert cause(inside, healthy) == name


def test_a_container_without_devices_is_told_so_without_its_host(healthy: Snapshot) -> None:
    inside = inside_of(healthy)
    no_dev_snd(inside)
    assert cause(inside) == "container-without-devices"


@pytest.mark.parametrize("tag", ["", "[error.core] "])
def test_the_file_with_a_syntax_error_is_named_by_any_alsa_lib(healthy: Snapshot, tag: str) -> None:
    """Debian's alsa-lib 1.2.8 and 1.2.14 say it without the tag, 1.2.16 with it."""
    said = f"{tag}/etc/alsa/conf.d/9.conf may be old or corrupted: consider to remove or fix it"
    refused(healthy, "EINVAL", f"conf.c:4043:(config_file_open) {said}")
    healthy["alsa"]["configuration"] = {"code": -22, "error": "Invalid argument"}
    found = first_broken(judge(healthy))
    assert found
    assert found.cause == "alsa-syntax-error"
    assert found.commands == ("mv '/etc/alsa/conf.d/9.conf' '/etc/alsa/conf.d/9.conf.broken'",)


def test_a_library_of_another_release_in_a_container(healthy: Snapshot) -> None:
    inside = inside_of(healthy)
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

    def test_what_is_nested_without_end_is_no_snapshot(self, healthy: Snapshot) -> None:
        """One host that sends such must not cost the others their reports, nor `--save`."""
        deep = json.dumps({**healthy, "usb": "@"}).replace('"@"', "[" * 900 + "]" * 900)
        with pytest.raises(SnapshotError, match="--save"):
            parse(deep)

    def test_a_number_beyond_all_bounds_is_judged(self, healthy: Snapshot) -> None:
        healthy["alsa"] = {**healthy["alsa"], "listened": {}, "timeout": 10**400}
        assert by_link(judge(healthy))["sharing"].status == "not seen"

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
