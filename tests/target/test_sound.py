"""What programs hear, all at once and while the agent holds the microphone."""

from __future__ import annotations

from typing import Any

import pytest
from tests.target.proof import BUSY, must, must_be_sound

Answer = dict[str, Any]

pytestmark = pytest.mark.live

RECORDERS = ("arecord at 48000 Hz", "arecord at 16000 Hz")


@pytest.mark.parametrize("recorder", RECORDERS)
def test_a_recording_has_sound_in_it(sound: Answer, recorder: str) -> None:
    must_be_sound(recorder, sound[recorder])


@pytest.mark.parametrize("recorder", RECORDERS)
def test_a_recording_is_as_long_as_asked(sound: Answer, recorder: str) -> None:
    heard, wanted = sound[recorder]["frames"], sound["wanted"][recorder]
    must(
        heard == wanted,
        f"{recorder} recorded {heard} frames, not {wanted} ({sound[recorder].get('error', 'no error')})",
        "Frames get lost where the USB connection or the processor is overloaded: see dmesg and top.",
    )


def test_two_record_at_once_while_the_agent_does(sound: Answer) -> None:
    first, second = (sound[name] for name in RECORDERS)
    must("began" in first and "began" in second, "the recorders did not both hear something", BUSY)
    together = min(first["ended"], second["ended"]) - max(first["began"], second["began"])
    must(together > 0, "one recorder began only when the other had ended", BUSY)
    before, after = sound["agent"]
    must(
        before is not None and after is not None, "the agent does not answer", "systemctl status pinna-agent"
    )
    must(after > before, "the agent captured nothing while others recorded", BUSY)


def test_portaudio_lists_and_hears_shared_mic(sound: Answer) -> None:
    _must_hear("sounddevice", sound["sounddevice"], "The agent's release is missing: run site.yml.")


def test_pyaudio_lists_and_hears_shared_mic(sound: Answer) -> None:
    if sound["pyaudio"] is None:
        pytest.skip("python3-pyaudio is not installed on the device; the probe's container has it")
    _must_hear("PyAudio", sound["pyaudio"], "")


def test_the_loudspeaker_can_be_shared(sound: Answer) -> None:
    if sound["speaker"] is None:
        pytest.skip("audio_speaker is none, or the agent is not configured")
    error = sound["speaker"].get("error")
    must(not error, f"shared_speaker cannot be opened while the agent holds it: {error}", BUSY)


def _must_hear(library: str, heard: Answer | None, cure: str) -> None:
    must(heard is not None, f"{library} is not there", cure)
    assert heard is not None
    must(
        heard["devices"],
        f"PortAudio lists no devices to {library} ({heard.get('error', 'no error')})",
        "Does `arecord -L` list shared_mic? An error in /etc/asound.conf or ~/.asoundrc drops them all.",
    )
    must("shared_mic" in heard["devices"], f"{library} lists {heard['devices']}, not shared_mic", BUSY)
    must_be_sound(library, heard)
