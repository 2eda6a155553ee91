from __future__ import annotations

import base64
import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinna.config import VoiceConfig
from pinna.links import voice_messages as messages
from pinna.links.voice_messages import NonsenseError
from pinna.links.voice_token import expiry


def token(claims: object) -> str:
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode() + ".s"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = st.sampled_from(["type", "session_id", "call_id", "request_id", "content", "audio_data"])
ENVELOPES = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=4), max_size=6)


@settings(deadline=None, database=None)
@given(ENVELOPES.map(json.dumps) | st.text(max_size=50))
def test_whatever_comes_is_a_message_or_nonsense(text: str) -> None:
    try:
        message = messages.read(text)
    except NonsenseError:
        return
    for use in (messages.samples_of, messages.rate_of):
        with contextlib.suppress(NonsenseError):
            use(message)


@settings(deadline=None, database=None)
@given(st.text(max_size=60) | JSON.map(token))
def test_whatever_is_given_has_an_expiry_or_none(text: str) -> None:
    ends = expiry(text)
    assert ends is None or 0 <= ends <= 4e9


@pytest.mark.parametrize(
    ("claims", "ends"),
    [({"exp": 1_700_000_000}, 1.7e9), ({"exp": 12.5}, 12.5), ({"exp": 10**400}, None), ({"exp": -5}, 0.0)]
    + [({"exp": value}, None) for value in ("1", True, None, float("nan"), float("inf"))],
)
def test_expiry(claims: dict[str, object], ends: float | None) -> None:
    assert expiry(token(claims)) == ends


def test_sound_there_and_back() -> None:
    writer = messages.Writer(VoiceConfig())
    sound = np.array([0, 1, -1, 32767, -32768], np.int16)
    read = messages.read(writer.audio(sound))
    assert read.type == "audio"
    assert np.array_equal(messages.samples_of(read), sound)


def test_names_are_read_from_envelope_or_content_and_may_be_null() -> None:
    assert messages.read('{"type": "x", "session_id": "s"}').session_id == "s"
    assert messages.read('{"type": "x", "content": {"session_id": "s"}}').session_id == "s"
    assert messages.read('{"type": "x", "session_id": null, "content": null}').session_id == ""
