from __future__ import annotations

import pytest
from tests.support.hub_device import speech, tone

from pinna.frame import SILENCE
from pinna.hub.voice import HANGOVER_FRAMES, ONSET_FRAMES, Voice, VoiceActivity


def test_speech_has_an_onset_and_an_end() -> None:
    voice = VoiceActivity()
    heard = [voice.hear(frame) for frame in speech("one two three four five")]
    heard += [voice.hear(SILENCE) for _ in range(HANGOVER_FRAMES)]
    assert Voice.ONSET in heard
    assert heard[-1] in (Voice.END, Voice.SILENT)
    assert voice.onsets == voice.ends == heard.count(Voice.ONSET) == heard.count(Voice.END)
    assert not voice.active


def test_a_whistle_and_silence_are_not_speech() -> None:
    """A tone within the range of the voice is taken for speech when it sets in."""
    voice = VoiceActivity()
    assert {voice.hear(frame) for frame in [*tone(6000, 2.0), *[SILENCE] * 50]} == {Voice.SILENT}


class Scripted:
    """Stands where webrtcvad's detector stands, to place its decisions."""

    def __init__(self, *runs: tuple[bool, int]) -> None:
        self._said = iter([speech for speech, frames in runs for _ in range(frames)])

    def is_speech(self, _data: bytes, _rate: int) -> bool:
        return next(self._said)


@pytest.mark.parametrize(
    ("runs", "onsets", "ends"),
    [
        ([(True, ONSET_FRAMES - 1), (False, 1)] * 3, 0, 0),
        ([(True, ONSET_FRAMES)], 1, 0),
        ([(True, ONSET_FRAMES), (False, HANGOVER_FRAMES - 1), (True, 1)] * 2, 1, 0),
        ([(True, ONSET_FRAMES), (False, HANGOVER_FRAMES)] * 2, 2, 2),
    ],
)
def test_onset_takes_three_frames_and_hangover_fifteen(
    runs: list[tuple[bool, int]], onsets: int, ends: int
) -> None:
    voice = VoiceActivity()
    voice._detector = Scripted(*runs)
    for _ in range(sum(frames for _, frames in runs)):
        voice.hear(SILENCE)
    assert (voice.onsets, voice.ends) == (onsets, ends)
