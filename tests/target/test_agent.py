"""The agent: installed, closed in, and heard by the hub. Whether it hears, test_doctor has judged."""

from __future__ import annotations

from typing import Any

import pytest
from tests.target.examine import HubView
from tests.target.hub import frames, level
from tests.target.proof import SILENCE_DBFS, must

Answer = dict[str, Any]

UNIT = "pinna-agent.service"
CONVERGE = "Run site.yml with --tags agent."
EXPOSURE = 2.0  # of 10, as systemd-analyze security counts; below 2 it says OK

MODES = {
    "/etc/pinna": "0755",
    "/etc/pinna/pinna.toml": "0644",
    "/etc/pinna/hub_token": "0600",
    "/etc/systemd/system/pinna-agent.service": "0644",
    "/opt/pinna": "0755",
    "/opt/pinna/releases": "0755",
    "/opt/pinna/current/bin/pinna": "0755",
}


def test_the_agents_files_belong_to_root(facts: Answer) -> None:
    wrong = []
    for path, mode in MODES.items():
        found = facts["files"][path]
        if found is None:
            wrong.append(f"{path} is not there")
        elif (found["owner"], found["group"], found["mode"]) != ("root", "root", mode):
            wrong.append(f"{path} is {found['owner']}:{found['group']} {found['mode']}, not root:root {mode}")
    must(not wrong, "; ".join(wrong), CONVERGE)


def test_a_release_of_the_agent_is_in_force(facts: Answer) -> None:
    link = facts["files"]["/opt/pinna/current"]
    must(link and link["kind"] == "link", "/opt/pinna/current is no link to a release", CONVERGE)
    must(link["exists"], "/opt/pinna/current leads to a release that is not there", CONVERGE)
    command = facts["files"]["/usr/local/bin/pinna"]
    must(command and command["exists"], "there is no command pinna for people", CONVERGE)


def test_the_agent_has_a_user_of_its_own(facts: Answer) -> None:
    user = facts["user"]
    must(user, "there is no user pinna", CONVERGE)
    must("audio" in user["groups"], "the user pinna is not in group audio", "usermod -aG audio pinna")
    must(user["uid"] < 1000, f"the user pinna is no system user (uid {user['uid']})", CONVERGE)
    must(user["shell"].endswith("nologin"), f"the user pinna can log in ({user['shell']})", CONVERGE)


def test_the_agent_starts_at_boot(facts: Answer) -> None:
    state = facts["units"][UNIT].get("UnitFileState")
    must(state == "enabled", f"{UNIT} is {state or 'not installed'}", f"systemctl enable {UNIT}")


@pytest.mark.live
def test_the_agent_runs_as_its_user(facts: Answer) -> None:
    owner = facts["agent_runs_as"]
    must(owner == "pinna", f"it runs as {owner}, not as pinna" if owner else "it does not run", CONVERGE)


@pytest.mark.live
def test_people_on_the_device_can_mute_it(facts: Answer) -> None:
    """`sudo pinna session mute` shows the agent's own token: made by itself, and nobody else's to read."""
    path = "/var/lib/pinna-agent/session_token"
    found = facts["files"][path]
    must(found, f"there is no {path}, so `pinna session` cannot change anything", f"systemctl restart {UNIT}")
    is_ = (found["owner"], found["group"], found["mode"])
    must(
        is_ == ("pinna", "pinna", "0640"),
        f"{path} is {is_[0]}:{is_[1]} {is_[2]}, not pinna:pinna 0640",
        f"rm {path}; systemctl restart {UNIT}",
    )


@pytest.mark.live
def test_the_agent_is_sandboxed(facts: Answer) -> None:
    exposure = facts["exposure"]
    must(exposure is not None, "systemd-analyze security says nothing of it", CONVERGE)
    must(
        exposure <= EXPOSURE,
        f"systemd-analyze security gives it {exposure}, above {EXPOSURE}",
        f"A drop-in opens it? `systemctl cat {UNIT}` shows. {CONVERGE}",
    )


@pytest.mark.live
def test_the_hub_counts_the_agent(hub: HubView) -> None:
    must(not hub.trouble, hub.trouble)
    must(
        hub.after["active_devices"],
        "the hub counts no device",
        "Are pinna_hub_url and --hub-url the same hub? journalctl -u pinna-agent tells what it answers.",
    )


@pytest.mark.live
def test_the_hub_hears_the_agent(facts: Answer, hub: HubView) -> None:
    if hub.trouble or "devices" not in hub.after:
        pytest.skip("the hub names no devices; `pinna hub` does, given --hub-token-file")
    device, before, after = facts["configuration"].get("device_id", ""), hub.before, hub.after
    devices = after["devices"]
    must(
        device in devices,
        f"the hub does not know {device!r}, of {sorted(devices)}",
        "Are pinna_hub_url and --hub-url the same hub? journalctl -u pinna-agent tells what it answers.",
    )
    must(
        devices[device]["connected"],
        f"the hub has a session of {device}, but no sound can pass",
        "UDP blocked?",
    )
    must(
        frames(after, device) > frames(before, device),
        f"the hub gets no frames of {device} ({frames(after, device)} since it connected)",
        "UDP between the two blocked? `pinna top` on the device tells what it sends.",
    )
    must(
        level(after, device) > SILENCE_DBFS,
        f"the hub gets frames of {device}, but silence ({level(after, device)} dBFS)",
        "Is the microphone muted? `amixer -c mic` tells.",
    )


@pytest.mark.live
def test_the_hub_hears_speech(hub: HubView, pytestconfig: pytest.Config) -> None:
    if hub.trouble:
        pytest.skip("the hub does not answer")
    forwarded = hub.after["frames_forwarded"] - hub.before["frames_forwarded"]
    if forwarded <= 0 and not pytestconfig.option.speech:
        pytest.skip("nobody spoke meanwhile; with --speech somebody must")
    must(forwarded > 0, "the hub heard no speech", "Speak near the microphone, or raise its gain.")
