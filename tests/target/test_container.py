"""What a program in a container hears, by PyAudio and by sounddevice."""

from __future__ import annotations

from typing import Any

import pytest
from tests.target.proof import BUSY, must

Answer = dict[str, Any]

pytestmark = pytest.mark.live

CURE = (
    "See in compose.yaml the bind mount of /dev/snd, device_cgroup_rules, group_add with the host's number, "
    "ipc: host, and the same Debian release as the host's."
)


@pytest.mark.parametrize("library", ["pyaudio", "sounddevice"])
def test_a_container_lists_and_hears_shared_mic(facts: Answer, container: Answer, library: str) -> None:
    if facts["files"]["/opt/pinna/probe/compose.yaml"] is None:
        pytest.skip("no probe is set up here (pinna_docker, docker_probe)")
    if not container and facts["units"]["docker.service"].get("UnitFileState") == "disabled":
        pytest.skip("docker_state is disabled")
    must(container, "Docker is enabled, but does not run", "systemctl status docker")
    if "not_built" in container and facts["files"]["/usr/lib/pinna/firstboot"] is not None:
        pytest.skip(f"flashed with an image, which brings no built probe: {container['not_built']}")
    must("not_built" not in container, f"the probe cannot be started: {container.get('not_built')}", CURE)
    must("error" not in container, f"the probe's container did not run: {container.get('error')}", CURE)
    heard = container[library]
    must(
        "devices" in heard,
        f"{library} did not come to list devices in the container: {heard.get('error')}",
        "Is the device overloaded (`uptime`)? Else build the probe anew: site.yml with --tags docker.",
    )
    must(heard["devices"], f"{library} lists no devices in the container: {heard.get('error')}", CURE)
    must("shared_mic" in heard["devices"], f"{library} lists {heard['devices']}, not shared_mic", CURE)
    must(
        "error" not in heard,
        f"{library} cannot record in the container: {heard.get('error')}",
        f"{CURE} {BUSY}",
    )
    must(heard["frames"], f"{library} recorded nothing in the container", BUSY)
    must(
        heard["peak"] > 0, f"{library} recorded digital silence in the container", "Is the microphone muted?"
    )
