"""Reaching into aiortc: each name that it does not promise is asked for here, when a connection is made.

Touched are `RTCRtpReceiver.__jitter_buffer` and `._handle_rtcp_packet` (by `media`),
`RTCRtpSender._send_rtcp` and `._handle_rtcp_packet`, and `RTCDtlsTransport._send_rtp` (by `sender`).
"""

from __future__ import annotations

from typing import Any

import aiortc

from pinna.errors import PinnaError


def inside(thing: object, name: str) -> Any:
    """The attribute `name` of `thing`. Raises PinnaError, permanent, if this aiortc has none."""
    try:
        return getattr(thing, name)
    except AttributeError:
        raise changed(f"{type(thing).__name__}.{name}") from None


def changed(what: str) -> PinnaError:
    return PinnaError(
        f"aiortc {aiortc.__version__} has changed inside: {what}",
        hint="Install the version that requirements.lock names",
        permanent=True,
    )
