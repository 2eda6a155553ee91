"""Pinna: a microphone on a Raspberry Pi, shared, streamed, recorded and proven to hear."""

__version__ = "0.1.0"
