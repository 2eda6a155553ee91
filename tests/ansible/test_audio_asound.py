"""asound.conf as alsa-lib reads it: the values in force, and who may override them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ASOUND = Path(__file__).parents[2] / "asound.conf"

# alsa-lib keeps its configuration in the process, so each look is a process of its own.
_LOOK = """
import ctypes, json, sys
alsa = ctypes.CDLL("libasound.so.2")
assert alsa.snd_config_update() >= 0, "the configuration does not load"
root = ctypes.c_void_p.in_dll(alsa, "snd_config")
found = ctypes.c_void_p()
base, name = sys.argv[1].encode(), sys.argv[2].encode()
error = alsa.snd_config_search_definition(root, base, name, ctypes.byref(found))
assert error >= 0, error
values = {}
for path in sys.argv[3:]:
    node = ctypes.c_void_p()
    if alsa.snd_config_search(found, path.encode(), ctypes.byref(node)) < 0:
        continue
    text = ctypes.c_void_p()
    assert alsa.snd_config_get_ascii(node, ctypes.byref(text)) >= 0, path
    values[path] = ctypes.string_at(text).decode()
print(json.dumps(values))
"""

_HARDWARE = ("pcm.card", "rate", "channels", "format", "period_time", "buffer_time")


class Alsa:
    """A configuration that loads conf.d, asound.conf and a user's file in the order of Debian's alsa.conf."""

    def __init__(self, folder: Path) -> None:
        self.system, self.user = folder / "40-pinna.conf", folder / "asoundrc"
        self.system.touch()
        self.user.touch()
        files = " ".join(f'"{path}"' for path in (self.system, ASOUND, self.user))
        self.main = folder / "alsa.conf"
        self.main.write_text(
            f"@hooks [ {{ func load files [ {files} ] errors true }} ]\ndefaults.namehint.basic on\n"
        )

    def look(self, base: str, name: str, *paths: str) -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", _LOOK, base, name, *paths],
            env={"ALSA_CONFIG_PATH": str(self.main)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def hardware(self, name: str) -> dict[str, str]:
        """What the shared PCM sets the card to."""
        paths = {f"slave.pcm.slave.{path}": path for path in _HARDWARE}
        return {paths[path]: value for path, value in self.look("pcm", name, *paths).items()}


@pytest.fixture
def alsa(tmp_path: Path) -> Alsa:
    return Alsa(tmp_path)


def test_the_microphone_is_the_sh04_unless_told_otherwise(alsa: Alsa) -> None:
    assert alsa.hardware("shared_mic") == {
        "pcm.card": "mic",
        "rate": "48000",
        "channels": "1",
        "format": "S16_LE",
        "period_time": "10000",
        "buffer_time": "320000",
    }


def test_the_loudspeaker_is_the_microphones_card_unless_told_otherwise(alsa: Alsa) -> None:
    assert alsa.hardware("shared_speaker") == {
        "pcm.card": "mic",
        "rate": "48000",
        "channels": "2",
        "format": "S16_LE",
        "period_time": "10000",
        "buffer_time": "320000",
    }


@pytest.mark.parametrize("where", ["system", "user"])
@pytest.mark.parametrize(
    ("key", "value", "pcm", "path"),
    [
        ("mic_card", '"other"', "shared_mic", "pcm.card"),
        ("mic_rate", "44100", "shared_mic", "rate"),
        ("mic_channels", "2", "shared_mic", "channels"),
        ("mic_format", '"S24_3LE"', "shared_mic", "format"),
        ("speaker_card", '"speaker"', "shared_speaker", "pcm.card"),
        ("speaker_rate", "44100", "shared_speaker", "rate"),
        ("speaker_channels", "1", "shared_speaker", "channels"),
        ("speaker_format", '"S32_LE"', "shared_speaker", "format"),
        ("period_time", "20000", "shared_mic", "period_time"),
        ("buffer_time", "500000", "shared_speaker", "buffer_time"),
    ],
)
def test_one_line_overrides_one_value(
    alsa: Alsa, where: str, key: str, value: str, pcm: str, path: str
) -> None:
    before = alsa.hardware(pcm)
    getattr(alsa, where).write_text(f"defaults.pinna.{key} {value}\n")
    assert alsa.hardware(pcm) == {**before, path: value.strip('"')}


def test_the_users_file_wins(alsa: Alsa) -> None:
    alsa.system.write_text("defaults.pinna.mic_rate 44100\n")
    alsa.user.write_text("defaults.pinna.mic_rate 16000\n")
    assert alsa.hardware("shared_mic")["rate"] == "16000"


def test_default_is_full_duplex_whatever_was_there_before(alsa: Alsa) -> None:
    alsa.system.write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    paths = ("type", "capture.pcm", "playback.pcm")
    assert alsa.look("pcm", "default", *paths) == dict(
        zip(paths, ("asym", "shared_mic", "shared_speaker"), strict=True)
    )
    assert alsa.look("ctl", "default", "type", "card") == {"type": "hw", "card": "mic"}


def test_other_users_and_containers_of_group_audio_share(alsa: Alsa) -> None:
    keys = set()
    for name, kind in (("shared_mic", "dsnoop"), ("shared_speaker", "dmix")):
        paths = ("type", "ipc_perm", "ipc_gid", "ipc_key_add_uid", "ipc_key")
        found = alsa.look("pcm", name, "type", *(f"slave.pcm.{path}" for path in paths))
        assert found["type"] == "plug"
        values = [found[f"slave.pcm.{path}"] for path in paths]
        assert values[0] == kind
        assert int(values[1], 8 if values[1].startswith("0") else 10) == 0o660
        assert values[2:4] == ["audio", "false"]
        keys.add(int(values[4]))
    # alsa-lib adds card << 12, and less for device and direction; dmix takes the next key as well.
    assert max(keys) - min(keys) > 32 << 12


def test_the_role_knows_the_keys(alsa: Alsa) -> None:
    """Role audio removes shared memory by key when the graph changes."""
    variables = yaml.safe_load((ASOUND.parent / "ansible/roles/audio/vars/main.yml").read_text())
    keys = [alsa.look("pcm", f"shared_{name}", "slave.pcm.ipc_key") for name in ("mic", "speaker")]
    ranges = re.findall(r"\$1 >= (\d+) && \$1 < (\d+)", variables["_audio_ipc_keys"])
    for key, (first, end) in zip(keys, ranges, strict=True):
        assert int(first) == int(key["slave.pcm.ipc_key"])
        assert int(end) > int(first) + (32 << 12)
