"""From the supply to the kernel's sound card."""

from __future__ import annotations

import re

from pinna.doctor.finding import Finding, Snapshot, broken, not_applicable, not_seen, ok

_UNSTABLE = re.compile(r"descriptor read|not accepting address|unable to enumerate|error -(71|110)\b", re.I)
OUTSIDE = "the container's host is the one to ask"


def power(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if snapshot.in_container:
        return not_applicable("power", OUTSIDE)
    log = snapshot.texts("kernel_log")
    if over := [line for line in log if re.search(r"over-?current (condition|change)", line, re.I)]:
        return broken("usb-overcurrent", *over[-3:], confidence="likely")
    state = [line for line in log if re.search(r"under-?voltage|voltage normalised", line, re.I)]
    if snapshot.text("power", "low") == "1" or (state and "normalised" not in state[-1]):
        return broken(
            "undervoltage",
            *state[-3:],
            f"rpi_volt in0_lcrit_alarm: {snapshot.text('power', 'low') or 'none'}",
        )
    if snapshot.text("power", "low") == "0":
        return ok("power", "the supply's sensor has seen no low voltage")
    if "system" in snapshot and "Raspberry Pi" not in snapshot.text("system", "model"):
        return not_applicable("power", "no Raspberry Pi: this board has no sensor we know")
    return not_seen("power", snapshot.why("power"))


def usb(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if snapshot.in_container:
        return not_applicable("usb", OUTSIDE)
    if "usb" not in snapshot:
        return not_seen("usb", snapshot.why("usb"))
    devices = snapshot.audio_devices
    off = [device for device in snapshot.tables("usb") if device.get("authorized") == "0"]
    if not devices and off:
        return broken("usb-deauthorized", f"{_name(off[0])}: authorized is 0", port=off[0].get("port"))
    if not devices:
        if any(not card.get("usb") for card in snapshot.recorders):
            return not_applicable("usb", "the microphone's card is not on USB")
        if trouble := [line for line in snapshot.texts("kernel_log")[-20:] if _UNSTABLE.search(line)]:
            return broken("usb-unstable", *trouble[-3:], confidence="likely")
        others = ", ".join(_name(device) for device in snapshot.tables("usb") if not device.get("hub"))
        return broken("no-usb-microphone", f"on the bus: {others or 'nothing'}")
    records = {card.get("usb") for card in snapshot.recorders}
    asleep = [one for one in devices if one.get("control") == "auto" and one.get("port") in records]
    if asleep:
        return broken(
            "usb-autosuspend", f"{_name(asleep[0])}: power/control is auto", port=asleep[0].get("port")
        )
    return ok("usb", ", ".join(_name(device) for device in devices))


def _name(device: dict[str, object]) -> str:
    return f"{device.get('product') or 'a device'} ({device.get('id')}, port {device.get('port')})"


def driver(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if snapshot.in_container:
        return not_applicable("driver", OUTSIDE)
    if "usb" not in snapshot:
        return not_seen("driver", snapshot.why("usb"))
    devices = snapshot.audio_devices
    if not devices:
        return not_applicable("driver", "there is no USB sound device")
    loose = [
        (device, interface)
        for device in devices
        for interface in device.get("interfaces", [])
        if interface.get("class") == "01"
    ]
    if any(interface.get("driver") for _, interface in loose):
        return ok("driver", "snd-usb-audio drives it")
    if "modules" not in snapshot:
        return not_seen("driver", snapshot.why("modules"))
    if "snd_usb_audio" not in snapshot.texts("modules", "loaded"):
        kernel = snapshot.text("system", "kernel")
        for line in snapshot.tables("modules", "forbidden"):
            return broken(
                "driver-blacklisted",
                f"{line.get('file')} line {line.get('line')}: {line.get('text')}",
                file=line["file"],
            )
        if snapshot.table("modules").get("folder") is False:
            kernels = ", ".join(snapshot.texts("modules", "kernels")) or "none"
            return broken("kernel-replaced", f"running: {kernel}; /lib/modules has: {kernels}")
        if snapshot.table("modules").get("has_usb_audio") is False:
            return broken("driver-missing", f"kernel {kernel}")
        return broken("driver-not-loaded", "lsmod does not list snd_usb_audio")
    device, interface = loose[0]
    return broken(
        "driver-unbound",
        f"{_name(device)}: {interface.get('name')} has no driver",
        interface=interface.get("name"),
    )


def card(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if snapshot.in_container:
        return not_applicable("card", OUTSIDE)
    if "cards" not in snapshot:
        return not_seen("card", snapshot.why("cards"))
    recorders = snapshot.recorders
    listed = ", ".join(f"{each.get('number')} `{each.get('id')}`" for each in snapshot.tables("cards"))
    if not recorders:
        return broken("card-cannot-record", f"cards: {listed or 'none'}")
    wanted = re.search(r"(?m)^mic_card '?([\w-]+)'?$", snapshot.text("alsa", "settings"))
    name = wanted[1] if wanted else "mic"
    if not snapshot.is_pinna:
        return ok("card", f"{listed} (no name is promised: role audio of the playbook has not been here)")
    if name not in [each.get("id") for each in recorders]:
        if snapshot.table("udev").get("rule") is False:
            return broken("naming-rule-missing", f"cards: {listed}")
        return broken("card-not-named", f"cards that record: {listed}", card=name)
    return ok("card", f"card {listed}")
