"""Ansible module: which card is the microphone, which the loudspeaker. Reads sysfs, changes nothing.

Standard library only: it runs on the target's own Python.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: pinna_cards
short_description: Find the microphone and the loudspeaker among the sound cards
description:
  - Fails when the variables name no card, or leave open which one is meant; the message lists the cards.
  - Only PCM device 0 of a card counts, as in asound.conf.
options:
  hardware: {type: bool, default: true, description: Look at the cards. False in an image.}
  mic_serial: {type: str, default: "", description: Serial number of the microphone's card.}
  mic_port: {type: str, default: "", description: USB port of the microphone's card.}
  mic_usb_id: {type: str, default: "", description: Vendor and product of the microphone's card.}
  speaker: {type: str, default: auto, description: C(auto), C(none), or a card that is not on USB.}
  speaker_serial: {type: str, default: "", description: Serial number of the loudspeaker's card.}
  speaker_port: {type: str, default: "", description: USB port of the loudspeaker's card.}
  speaker_usb_id: {type: str, default: "", description: Vendor and product of the loudspeaker's card.}
"""

RETURN = r"""
cards: {type: list, returned: always, description: All sound cards.}
mic: {type: dict, returned: always, description: The microphone's card or null.}
speaker: {type: dict, returned: always, description: The loudspeaker's card or null.}
speaker_card: {type: str, returned: always, description: The loudspeaker's ALSA id for asound.conf.}
named: {type: bool, returned: always, description: Whether the cards that are there have their ids.}
mic_match: {type: str, returned: always, description: What a udev rule matches the microphone by.}
speaker_match: {type: str, returned: always, description: What a udev rule matches the loudspeaker by.}
"""

KEYS = ("serial", "port", "usb_id")  # the order in which they are asked for


@dataclass(frozen=True)
class Card:
    """A sound card of the kernel. `port`, `usb_id` are empty for a card that is not on USB."""

    number: int
    id: str
    name: str
    serial: str
    port: str
    usb_id: str
    records: bool
    plays: bool

    def __str__(self) -> str:
        does = " and ".join(verb for verb, can in (("records", self.records), ("plays", self.plays)) if can)
        usb = f"serial {self.serial or '(none)'}, port {self.port}, id {self.usb_id}"
        does = does or "neither records nor plays"
        return f"card {self.number} '{self.name}' ({usb if self.port else 'not on USB'}; {does})"


class CardError(Exception):
    """The variables do not say which card is meant; the message says what to set."""


def survey(sysfs: Path) -> list[Card]:
    """All cards of the kernel whose sysfs is mounted at `sysfs`, in the order of their numbers."""
    cards = []
    for path in sysfs.glob("class/sound/card[0-9]*"):
        number = int(path.name.removeprefix("card"))
        interface = (path / "device").resolve()
        usb = (interface / "subsystem").resolve().name == "usb"
        device = interface.parent
        vendor, product = (_read(device / name) if usb else "" for name in ("idVendor", "idProduct"))
        cards.append(
            Card(
                number=number,
                id=_read(path / "id"),
                name=(_read(device / "product") if usb else "") or _read(path / "id"),
                serial=_read(device / "serial") if usb else "",
                port=device.name if usb else "",
                usb_id=f"{vendor}:{product}" if usb else "",
                records=(path / f"pcmC{number}D0c").exists(),
                plays=(path / f"pcmC{number}D0p").exists(),
            )
        )
    return sorted(cards, key=lambda card: card.number)


def choose(cards: list[Card], role: str, verb: str, wanted: dict[str, str]) -> Card | None:
    """The one of `cards` that `wanted` (keys of KEYS) names, or the only one. None when there are no cards.

    `role` (mic, speaker) and `verb` (records, plays) are for the error.
    """
    if not cards:
        return None
    key = next((key for key in KEYS if wanted[key]), None)
    if key is None:
        if len(cards) == 1:
            return cards[0]
        raise CardError(
            f"{len(cards)} USB cards could be the {role}, for each {verb}: {listed(cards)}. "
            f"{_cure(cards, role)}"
        )
    value = wanted[key].strip()
    found = [card for card in cards if getattr(card, key).lower() == value.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise CardError(
            f"audio_{role}_{key} is '{value}', and {len(found)} USB cards answer to it: {listed(found)}. "
            f"{_cure(found, role)}"
        )
    raise CardError(
        f"audio_{role}_{key} is '{value}', but of the USB cards here none that {verb} answers to it: "
        f"{listed(cards)}. Correct audio_{role}_{key}, or plug that card in."
    )


def listed(cards: list[Card]) -> str:
    return "; ".join(map(str, cards)) or "none"


def _cure(cards: list[Card], role: str) -> str:
    """Which variables tell these cards apart, with the values to choose from."""
    ways = []
    for key in KEYS:
        values = [getattr(card, key) for card in cards]
        if all(values) and len(set(values)) == len(values):
            ways.append(f"audio_{role}_{key} to {' or '.join(map(repr, values))}")
    none = ", or audio_speaker to 'none'" if role == "speaker" else ""
    return f"For this host set {', or '.join(ways)}{none}."


def match(wanted: dict[str, str]) -> str:
    """The keys of a udev rule that match the card which `wanted` names; empty for any card.

    `?` stands for what would be a pattern, or end the string. A port matches the card's interface, so that a
    hub on the way to it is not meant.
    """
    if wanted["serial"]:
        return f'ATTRS{{serial}}=="{re.sub(r"[^A-Za-z0-9 ._:-]", "?", wanted["serial"].strip())}",'
    if wanted["port"]:
        return f'KERNELS=="{wanted["port"]}:*",'
    if wanted["usb_id"]:
        vendor, product = wanted["usb_id"].lower().split(":")
        return f'ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}",'
    return ""


def find(
    cards: list[Card], mic: dict[str, str], speaker: str, speaker_by: dict[str, str]
) -> dict[str, object]:
    """What the module returns, from the cards that are there and the variables."""
    usb = [card for card in cards if card.port]
    microphone = choose([card for card in usb if card.records], "mic", "records", mic)
    loudspeaker = None
    if speaker != "auto":
        _check_onboard(cards, speaker)
        speaker_card = speaker
    else:
        players = [card for card in usb if card.plays]
        if not any(speaker_by.values()):
            # The microphone's own card goes first, the others are for one that cannot play.
            players = [card for card in players if card == microphone] or players
        loudspeaker = choose(players, "speaker", "plays", speaker_by)
        if loudspeaker or microphone:
            speaker_card = "mic" if loudspeaker == microphone else "speaker"
        else:  # no hardware to go by: one card for both, unless the variables name two
            speaker_card = "speaker" if any(speaker_by.values()) and speaker_by != mic else "mic"
    return {
        "cards": [asdict(card) for card in cards],
        "mic": asdict(microphone) if microphone else None,
        "speaker": asdict(loudspeaker) if loudspeaker else None,
        "speaker_card": speaker_card,
        "mic_match": match(mic),
        "speaker_match": match(speaker_by),
        "named": (not microphone or microphone.id == "mic")
        and (not loudspeaker or loudspeaker.id == speaker_card),
    }


def _check_onboard(cards: list[Card], speaker: str) -> None:
    """`speaker` must be `none`, or the id of a card that plays and is not on USB."""
    ids = [card.id for card in cards if card.plays and not card.port]
    if cards and speaker not in ["none", *ids]:
        raise CardError(
            f"audio_speaker is '{speaker}', which is none of {['auto', 'none', *ids]}. For a card on USB "
            "leave it at 'auto' and set audio_speaker_serial, audio_speaker_port or audio_speaker_usb_id: "
            f"{listed(cards)}."
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # an attribute this device has not, or a card that was pulled just now
        return ""


def main() -> None:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "hardware": {"type": "bool", "default": True},
            "speaker": {"type": "str", "default": "auto"},
            **{f"{role}_{key}": text for role in ("mic", "speaker") for key in KEYS},
        },
        supports_check_mode=True,
    )
    given = module.params
    cards = survey(Path("/sys")) if given["hardware"] else []
    try:
        result = find(
            cards,
            {key: given[f"mic_{key}"] for key in KEYS},
            given["speaker"],
            {key: given[f"speaker_{key}"] for key in KEYS},
        )
    except CardError as error:
        module.fail_json(msg=str(error), cards=[asdict(card) for card in cards])
    if given["hardware"] and not result["mic"]:
        module.warn(
            "no USB microphone is plugged in, or it has no driver (see lsusb and arecord -l). All is set up "
            f"for one that comes later. Sound cards here: {listed(cards)}."
        )
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
