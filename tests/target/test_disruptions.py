"""What a device must survive. After each disruption, all other tests judge it again."""

from __future__ import annotations

import pytest
from testinfra.host import Host
from tests.target.contact import Unreachable, name
from tests.target.examine import EXAMINATION, FOUND, REBOOTED, REPLUGGED, Answer
from tests.target.proof import must
from tests.target.report import UNREACHABLE


@pytest.mark.stage(REPLUGGED)
def test_a_replugged_microphone_is_heard_again(
    host: Host, pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> None:
    what = _disruption(host, REPLUGGED, pytestconfig)
    must("error" not in what, f"the microphone cannot be replugged: {what.get('error')}")
    must(what["gone"], "the card stayed when its device was taken away", "This kernel holds it: see dmesg.")
    must(
        what["back"], "the card did not come back as `mic`", "udevadm test of its controlC device tells why."
    )
    must(
        what["heard"],
        f"the agent did not stream again (streams opened: {what['streams']})",
        "journalctl -u pinna-agent tells what it tried.",
    )
    request.node.user_properties.append(("seconds_until_heard_again", what["seconds"]))


@pytest.mark.stage(REPLUGGED)
def test_a_container_that_was_running_hears_the_replugged_microphone(
    host: Host, pytestconfig: pytest.Config
) -> None:
    heard = _disruption(host, REPLUGGED, pytestconfig).get("container")
    if heard is None:
        pytest.skip("no container can be started here")
    trouble = heard.get("error") or "; ".join(
        f"{library}: {heard[library].get('error', 'digital silence')}"
        for library in ("pyaudio", "sounddevice")
        if not heard[library].get("peak")
    )
    must(
        not trouble,
        f"in a container that was running when the microphone came back: {trouble}",
        "Is /dev/snd bound as a folder, and `c 116:* rmw` among device_cgroup_rules? See compose.yaml.",
    )


@pytest.mark.stage(REBOOTED)
def test_the_device_comes_back_from_a_reboot(
    host: Host, pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> None:
    what = _disruption(host, REBOOTED, pytestconfig)
    request.node.user_properties.append(("seconds_until_it_answered", what["answered_seconds"]))
    request.node.user_properties.append(("seconds_more_until_it_had_settled", what["settled_seconds"]))


def _disruption(host: Host, stage: str, config: pytest.Config) -> Answer:
    examination, trouble = config.stash[EXAMINATION], ""
    try:
        found = examination.seen(name(host), FOUND)
    except Unreachable:
        pytest.skip(UNREACHABLE)
    if not config.option.disruptive:
        pytest.skip(f"interrupts the device's work: --disruptive has it {stage}")
    if not found.facts["running"]:
        pytest.skip("needs a running system")
    try:
        return examination.seen(name(host), stage).disruption
    except Unreachable as error:
        trouble = str(error)
    pytest.fail(trouble, pytrace=False)
