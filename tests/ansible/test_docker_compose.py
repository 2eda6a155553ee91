"""docker/: the recorder and its archive in containers, as far as it can be judged without an engine."""

from __future__ import annotations

import re
import subprocess
import tarfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.local_play import render

from pinna.recorder.service import STOP_SECONDS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = COMPOSE.with_name("Dockerfile")
SOUND = ("cap_drop", "device_cgroup_rules", "ipc", "read_only", "security_opt")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_recorder_reaches_the_microphone_as_the_appliances_probe_does(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """The probe's container is the one that tests/target and the doctor prove."""
    known = {"_docker_image": "probe", "_docker_base": "base", "docker_base_image": "base"}
    probe = yaml.safe_load(render(tmp_path, "docker", "compose.yaml.j2", known))["services"]["probe"]
    recorder = services["recorder"]
    assert {key: recorder[key] for key in SOUND} == {key: probe[key] for key in SOUND}
    assert recorder["group_add"] == [f"${{PINNA_AUDIO_GID:-{probe['group_add'][0]}}}"]
    assert all(volume in recorder["volumes"] for volume in probe["volumes"])


def test_none_of_them_is_root_or_privileged(services: dict[str, Any]) -> None:
    user = re.findall(r"(?m)^USER (.*)$", DOCKERFILE.read_text())
    assert user == ["10001:10001"]
    for service in services.values():
        assert not {"privileged", "cap_add", "user", "devices", "ports"} & set(service)
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_recorder_has_time_to_finish_its_files(services: dict[str, Any]) -> None:
    assert int(services["recorder"]["stop_grace_period"].removesuffix("s")) >= STOP_SECONDS + 5


def test_the_archive_is_closed_and_changes_nothing(services: dict[str, Any]) -> None:
    """On the host's loopback; anywhere else it asks for a token, which test_archive holds."""
    archive = services["archive"]
    assert archive["network_mode"] == "host"
    assert archive["command"][3:5] == ["--host", "${PINNA_ARCHIVE_HOST:-127.0.0.1}"]
    assert all(volume["read_only"] for volume in archive["volumes"])
    assert "token" not in " ".join(archive["command"]).lower(), "command lines are for all to see"


def test_the_image_unpacks_the_release_and_finds_it(tmp_path: Path) -> None:
    """The Dockerfile's own words, wherever the shell stands."""
    archives, place = tmp_path / "archives", tmp_path / "pinna"
    archives.mkdir()
    for name, file in {"wheels-5e6f": "5e6f/complete", "0.1.0-1a2b": "0.1.0-1a2b/bin/pinna"}.items():
        with tarfile.open(archives / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(__file__, file)
    words = re.search(r"(?s)\n && (mkdir -p /opt/pinna/wheels.*?)\nFROM", DOCKERFILE.read_text())
    assert words is not None
    script = words[1].replace("/opt/pinna", str(place)).replace("/archives", str(archives))
    subprocess.run(["sh", "-ec", script], check=True, cwd="/")
    assert (place / "current/bin/pinna").is_file()
    assert (place / "wheels/5e6f/complete").is_file()


def test_what_the_image_is_built_of_is_sent_to_the_engine() -> None:
    """What .dockerignore leaves out is not there when the release is built."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / path).exists() for path in kept)
    builder = (ROOT / "ansible/roles/agent/files/build_release.py").read_text()
    needed = re.search(r"for needed in \((.*?)\)", builder)
    assert needed is not None
    copied = re.findall(r"/source/(\S+\.py)", DOCKERFILE.read_text())
    for path in (*re.findall(r'"(.*?)"', needed[1]), *copied):
        assert any(path == one or fnmatch(path, f"{one}/*") for one in kept), path
