"""Whether an SDP answer is one we can talk to: checked before aiortc acts on it."""

from __future__ import annotations

from aiortc.sdp import SessionDescription

from pinna.errors import HubAnswerError


def check_answer(sdp: object, hub: str) -> str:
    """`sdp` itself, if it accepts our one audio stream with Opus over ICE and DTLS. Raises HubAnswerError."""
    if not isinstance(sdp, str) or not sdp.strip():
        raise _unusable(hub, "holds no SDP")
    try:
        description = SessionDescription.parse(sdp)
    except Exception:  # noqa: BLE001 -- the parser meets bad input with whatever comes: KeyError, assert...
        raise _unusable(hub, "holds an SDP that cannot be read") from None
    if len(description.media) != 1 or description.media[0].kind != "audio":
        raise _unusable(hub, "does not hold the one audio stream we offered")
    audio = description.media[0]
    if not audio.port:
        raise _unusable(hub, "declines our audio stream")
    if not any(codec.mimeType.lower() == "audio/opus" for codec in audio.rtp.codecs):
        raise _unusable(hub, "does not accept Opus")
    if audio.dtls is None or not audio.dtls.fingerprints:
        raise _unusable(hub, "holds no DTLS fingerprint")
    if audio.ice is None or not audio.ice.usernameFragment or not audio.ice.password:
        raise _unusable(hub, "holds no ICE credentials")
    return sdp


def _unusable(hub: str, what: str) -> HubAnswerError:
    return HubAnswerError(
        f"the answer of {hub} {what}",
        hint="Check that `hub.url` and `hub.dialect` are those of a hub that takes Opus over WebRTC",
    )
