"""Which device the operator means, and what format it can be opened with."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Literal

from pinna.errors import DeviceError
from pinna.frame import FRAME_MS, SAMPLE_RATE

Direction = Literal["input", "output"]

NO_OUTPUT: Final = "none"
"""As `audio.output`: a device without a loudspeaker."""

RATES: Final = (SAMPLE_RATE, 44_100, 96_000, 32_000, 16_000)
"""Hz, in the order they are tried. All give whole blocks of 20 ms."""


@dataclass(frozen=True, slots=True)
class Card:
    """One entry of PortAudio's list. ALSA PCMs such as `shared_mic` are entries like any card."""

    index: int
    name: str
    inputs: int  # channels
    outputs: int
    default_rate: float  # Hz
    is_default_input: bool = False
    is_default_output: bool = False

    def channels(self, direction: Direction) -> int:
        return self.inputs if direction == "input" else self.outputs

    def is_default(self, direction: Direction) -> bool:
        return self.is_default_input if direction == "input" else self.is_default_output


@dataclass(frozen=True, slots=True)
class Format:
    """How a duplex stream is opened: devices by index, channels each way, one rate in Hz for both."""

    input: int
    output: int | None
    input_channels: int
    output_channels: int
    rate: int

    @property
    def block(self) -> int:
        """Samples of one 20 ms callback."""
        return self.rate * FRAME_MS // 1000


def list_cards(sounddevice: ModuleType) -> list[Card]:
    """What PortAudio saw when it was last initialised."""
    default_input, default_output = sounddevice.default.device
    return [
        Card(
            index=entry["index"],
            name=entry["name"],
            inputs=entry["max_input_channels"],
            outputs=entry["max_output_channels"],
            default_rate=entry["default_samplerate"],
            is_default_input=entry["index"] == default_input,
            is_default_output=entry["index"] == default_output,
        )
        for entry in sounddevice.query_devices()
    ]


def find_card(wanted: str, direction: Direction, cards: Sequence[Card]) -> Card:
    """The card meant by `default`, an index, `hw:X,Y`, a name, or a part of exactly one name (any case).

    Raises DeviceError: nothing fits, more than one does, or what fits has no channels in this direction.
    """
    usable = [card for card in cards if card.channels(direction)]
    found = _matching(wanted, direction, usable)
    if len(found) == 1:
        return found[0]
    if found:
        raise DeviceError(
            f"audio.{direction} = {wanted!r} fits {len(found)} devices: {_names(found)}",
            hint="Give the whole name, or the index",
        )
    if elsewhere := _matching(wanted, direction, cards):
        raise DeviceError(
            f"audio.{direction} = {wanted!r} is {elsewhere[0].name!r}, which has no {direction} channels",
            hint=f"Devices with {direction}: {_names(usable)}",
        )
    raise DeviceError(
        f"audio.{direction} = {wanted!r} fits no sound device",
        hint=f"PortAudio sees: {_names(usable)}. A device that another program holds is not in its list; "
        "`pinna devices` shows what there is",
    )


def _matching(wanted: str, direction: Direction, cards: Sequence[Card]) -> list[Card]:
    name = wanted.strip()
    if name == "default":
        by_name = [card for card in cards if card.name == "default"]
        return by_name or [card for card in cards if card.is_default(direction)]
    if name.isdecimal():
        return [card for card in cards if card.index == int(name)]
    if re.fullmatch(r"hw:\w+(,\d+)?", name):
        address = name if "," in name else f"{name},0"
        return [card for card in cards if card.name == name or f"({address})" in card.name]
    exact = [card for card in cards if card.name == name]
    return exact or [card for card in cards if name and name.casefold() in card.name.casefold()]


def _names(cards: Sequence[Card]) -> str:
    return ", ".join(f"{card.index} {card.name!r}" for card in cards) or "nothing"


def choose_format(
    microphone: Card, speaker: Card | None, opens: Callable[[Direction, Card, int, int], bool]
) -> Format:
    """The first rate that both devices take; a microphone mono, a loudspeaker stereo, if they can.

    Stereo is what a shared loudspeaker's dmix has. From mono, ALSA's plug would put a conversion before it,
    and alsa-lib's conversions abort the whole process after an underrun (1.2.14: snd_pcm_plugin_status claims
    that nobody reset the position below).

    `opens(direction, card, channels, rate)` asks the device. Raises DeviceError when no rate suits both.
    """

    def channels(direction: Direction, card: Card, rate: int) -> int | None:
        most = card.channels(direction)
        choices = (1, min(2, most), most) if direction == "input" else (min(2, most), 1, most)
        return next((count for count in choices if opens(direction, card, count, rate)), None)

    for rate in RATES:
        inputs = channels("input", microphone, rate)
        if inputs is None:
            continue
        if speaker is None:
            return Format(microphone.index, None, inputs, 0, rate)
        outputs = channels("output", speaker, rate)
        if outputs is not None:
            return Format(microphone.index, speaker.index, inputs, outputs, rate)
    both = microphone.name if speaker is None else f"{microphone.name!r} and {speaker.name!r} together"
    raise DeviceError(
        f"no sample rate suits {both} (tried {', '.join(map(str, RATES))} Hz)",
        hint="The device is busy, or two different cards share no rate: use a converting PCM "
        "such as `default`, `plughw:…` or `shared_mic`",
    )
