"""From ALSA's configuration to a microphone that is heard, on a machine or in a container."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from pinna.doctor.finding import Finding, Snapshot, broken, not_seen, ok

GRAPH = "/etc/asound.conf"
_SHM_KEYS = (
    1 << 18
)  # alsa-lib adds card << 12, subdevice << 8, device << 2 and direction to ipc_key (pcm_direct.c)
_SERVICE = re.compile(r"(?!ssh|user@)[\w@.\-]+\.service")
_SERVERS = ("pipewire", "wireplumber", "pulseaudio", "jackd", "jackdbus")
# alsa-lib 1.2.16 has a word like `[error.core]` before the message; Debian 12's and 13's have none.
_CORRUPTED = re.compile(r"\(config_file_open\) (?:\[[\w.]*\] )?(.+) may be old or corrupted")


def alsa(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if "alsa_files" not in snapshot:
        return not_seen("alsa", snapshot.why("alsa_files"))
    return _files(snapshot) or _parsed(snapshot)


def _files(snapshot: Snapshot) -> Finding | None:
    files = snapshot.tables("alsa_files")
    for number, file in enumerate(files):
        path, kind = str(file.get("path")), file.get("kind")
        if kind == "folder":
            finding = broken("alsa-conf-is-a-folder", f"{path} is a folder", file=path)
            mounted = path in [mount.get("at") for mount in snapshot.tables("container", "mounts")]
            return dataclasses.replace(finding, commands=()) if mounted else finding
        first = number == 0
        if first and (kind in ("missing", "dangling link") or not _readable(snapshot, file)):
            return broken("alsa-conf-missing", f"{path}: {kind}, mode {file.get('mode', 'none')}", file=path)
        if kind in ("missing", "dangling link") and path == GRAPH and snapshot.is_pinna:
            return broken("asound-conf-missing", f"{path}: {kind}")
        if kind == "file" and not _readable(snapshot, file):
            return broken(
                "alsa-conf-unreadable", f"{path} has mode {file.get('mode')}", file=path, user=snapshot.user
            )
    return None


def _readable(snapshot: Snapshot, file: dict[str, Any]) -> bool:
    """For the subject, by mode: whoever collected may have been root."""
    mode, subject = int(str(file.get("mode", "0")), 8), snapshot.table("subject")
    if subject.get("uid") == 0:
        return file.get("readable") is not False
    if file.get("owner") == subject.get("user"):
        return bool(mode & 0o400)
    return bool(mode & (0o040 if file.get("gid") in subject.get("groups", []) else 0o004))


def _parsed(snapshot: Snapshot) -> Finding:
    if "alsa" not in snapshot:
        return not_seen("alsa", snapshot.why("alsa"))
    if missing := snapshot.text("alsa", "missing"):
        trixie = snapshot.text("system", "codename") not in ("bookworm", "bullseye", "jammy")
        return broken("libasound-missing", missing, package="libasound2t64" if trixie else "libasound2")
    said = snapshot.said("alsa")
    if "configuration" not in snapshot.table("alsa"):
        return not_seen("alsa", f"libasound did not tell: {_end(snapshot, 'alsa')}")
    if snapshot.number("alsa", "configuration", "code") < 0:
        return _dropped(snapshot, said)
    for line in said:
        if plugin := re.search(r"Cannot open shared library \S*?(libasound_module_\w+\.so)", line):
            return broken("alsa-plugin-missing", line, plugin=plugin[1])
        if "must be a valid file permission" in line:
            file = _with(snapshot, lambda one: any(not perm.startswith("0") for perm in one.get("perms", [])))
            return broken("ipc-perm-invalid", line, file=file)
    return _numbers(snapshot) or _winners(snapshot) or _shared(snapshot)


def _dropped(snapshot: Snapshot, said: list[str]) -> Finding:
    """alsa-lib names the place (`_toplevel_:2:0:Unexpected char`), then the file."""
    wrong = [line for line in said if _CORRUPTED.search(line) or re.search(r":\d+:\d+:", line)]
    named = next((match[1] for line in wrong if (match := _CORRUPTED.search(line))), "")
    if named:
        return broken("alsa-syntax-error", *wrong[:3], file=named)
    error = snapshot.text("alsa", "configuration", "error")
    return broken("alsa-syntax-error", error, *said[:4], file="the configuration", confidence="likely")


def _with(snapshot: Snapshot, fits: Any) -> str:
    return str(next((one.get("path") for one in reversed(snapshot.tables("alsa_files")) if fits(one)), GRAPH))


def _end(snapshot: Snapshot, child: str) -> str:
    if seconds := snapshot.table(child).get("timeout"):
        return f"it did not end in {seconds:g} s"
    return snapshot.text(child, "signal") or snapshot.text(child, "error") or "no answer"


def _numbers(snapshot: Snapshot) -> Finding | None:
    """A card that our own files name by a number that no card has."""
    there = {str(card.get("number")) for card in snapshot.tables("cards")}
    for file in snapshot.tables("alsa_files")[1:]:
        for number in file.get("cards", []):
            if there and number not in there:
                best = snapshot.microphone_card.get("id", "mic")
                return broken(
                    "card-number-changed",
                    f"{file.get('path')} names card {number}; there are: {', '.join(sorted(there))}",
                    card=number,
                    file=file.get("path"),
                    id=best,
                )
    return None


def _winners(snapshot: Snapshot) -> Finding | None:
    """Of a name that Pinna's asound.conf defines, the last definition should be that one."""
    files = snapshot.tables("alsa_files")
    if not any(file.get("path") == GRAPH and file.get("pinna") for file in files):
        return None
    for pcm in ("shared_mic", "shared_speaker", "default"):
        where = [
            (file, each) for file in files for each in file.get("defines", []) if each.get("name") == pcm
        ]
        if where and where[-1][0].get("path") != GRAPH:
            file = where[-1][0]
            places = ", ".join(f"{one.get('path')} line {it.get('line')}" for one, it in where[1:])
            return broken("pcm-redefined", f"pcm.{pcm}: {places}", file=file.get("path"), pcm=pcm)
    return None


def _shared(snapshot: Snapshot) -> Finding:
    names = snapshot.texts("alsa", "pcms")
    if snapshot.is_pinna and "shared_mic" not in names:
        return broken("asound-conf-missing", f"libasound knows no pcm.shared_mic, of {len(names)}")
    text = "it parses" + (", and shared_mic is as it should be" if snapshot.is_pinna else "")
    return ok("alsa", f"{text} (libasound {snapshot.text('alsa', 'version')})")


def access(snapshot: Snapshot, host: Snapshot | None) -> Finding:
    if "nodes" not in snapshot:
        return not_seen("access", snapshot.why("nodes"))
    if (pcm := snapshot.text("alsa", "listened", "pcm")) and _hears(snapshot):
        return ok("access", f"{snapshot.user} may use what {pcm} leads to")
    nodes = snapshot.table("nodes", "nodes")
    controls = {path: node for path, node in nodes.items() if "controlC" in path and isinstance(node, dict)}
    cards = snapshot.tables("cards") or (host.tables("cards") if host else [])
    inside = snapshot.in_container
    wanted = {f"/dev/snd/controlC{card.get('number')}" for card in cards if card.get("records")}
    if inside and not snapshot.table("nodes").get("folder"):
        return broken("container-without-devices", "there is no /dev/snd in the container")
    if lost := sorted(wanted - set(controls)):
        cause = "container-old-devices" if inside else "device-nodes-missing"
        said = f"missing: {', '.join(lost)}; there are: {', '.join(controls) or 'none'}"
        return broken(cause, said, port=snapshot.microphone_card.get("usb", ""))
    if not controls:
        return not_seen("access", "there is no card to ask for")
    for path, node in sorted(controls.items()):
        if wanted and path not in wanted:
            continue
        said = f"{path} is {node.get('owner')}:{node.get('group')} {node.get('mode')}"
        if node.get("open") == "EPERM":
            return broken("container-device-rule", f"{said}; opening it: EPERM")
        if not node.get("allows"):
            return _forbidden(snapshot, path, node, said)
    pcms = [(path, node) for path, node in sorted(nodes.items()) if "pcmC" in path and not node.get("allows")]
    if pcms:
        path, node = pcms[0]
        return _forbidden(
            snapshot, path, node, f"{path} is {node.get('owner')}:{node.get('group')} {node.get('mode')}"
        )
    return ok("access", f"{snapshot.user} may use {', '.join(sorted(wanted & set(controls)) or controls)}")


def _forbidden(snapshot: Snapshot, path: str, node: dict[str, Any], said: str) -> Finding:
    groups = (
        f"{snapshot.user} is in {', '.join(map(str, snapshot.texts('subject', 'group_names'))) or 'no group'}"
    )
    numbers = snapshot.table("subject").get("groups", [])
    by_group = (int(str(node.get("mode", "0")), 8) & 0o060) == 0o060 and node.get("gid") not in (0, *numbers)
    if by_group and snapshot.in_container:
        return broken("container-without-group", said, groups, gid=node.get("gid"))
    if by_group and node.get("group") == "audio":
        return broken("user-not-in-audio", said, groups, user=snapshot.user)
    owner, group, mode = (node.get(key) for key in ("owner", "group", "mode"))
    return broken("node-permissions", said, groups, node=path, owner=owner, group=group, mode=mode)


def _hears(snapshot: Snapshot) -> bool:
    heard = snapshot.table("alsa", "listened")
    return bool(heard.get("frames")) and not heard.get("errno")


def sharing(snapshot: Snapshot, host: Snapshot | None) -> Finding:
    if "alsa" not in snapshot:
        return not_seen("sharing", snapshot.why("alsa"))
    heard = snapshot.table("alsa", "listened")
    if not heard:
        if snapshot.table("alsa").get("timeout"):
            return _stalled(snapshot, f"opening it took longer than {snapshot.table('alsa')['timeout']:g} s")
        return not_seen("sharing", f"nobody could listen: {_end(snapshot, 'alsa')}")
    error, name = str(heard.get("errno", "")), heard.get("pcm")
    said = [line for line in snapshot.said("alsa") if "ALSA lib" in line][-4:]
    evidence = [f"{name}, {heard.get('at')}: {heard.get('error')}", *said]
    if not error:
        frames = heard.get("frames")
        return (
            ok("sharing", f"{name} opens and delivers")
            if frames
            else not_seen("sharing", f"{name} gave nothing")
        )
    words = "\n".join(snapshot.said("alsa"))
    if error == "EBUSY":
        return _busy(snapshot, host, evidence)
    if "IPC" in words or "sum ring buffer" in words or (error in ("EACCES", "EPERM") and _objects(snapshot)):
        return _not_shared(snapshot, host, evidence, error)
    if error == "EINVAL" and (finding := _unsupported(snapshot, evidence)):
        return finding
    if error in ("EIO", "ETIMEDOUT"):
        return _stalled(snapshot, *evidence)
    return broken("microphone-does-not-open", *evidence, confidence="likely")


def _stalled(snapshot: Snapshot, *evidence: str) -> Finding:
    return broken(
        "microphone-stalled", *evidence, confidence="likely", port=snapshot.microphone_card.get("usb", "")
    )


def _busy(snapshot: Snapshot, host: Snapshot | None, evidence: list[str]) -> Finding:
    around = host or snapshot
    number = around.microphone_card.get("number", 0)
    known = [
        one
        for one in (*snapshot.tables("holders", "list"), *(host.tables("holders", "list") if host else ()))
        if any(re.fullmatch(rf"/dev/snd/pcmC{number}D\d+c", node) for node in one.get("nodes", []))
    ]
    if not known:
        why = "" if snapshot.table("holders").get("complete") else "; only root sees everybody's processes"
        return broken("microphone-does-not-open", *evidence, f"no holder was found{why}", confidence="likely")
    holder = next((one for one in known if one.get("name") in _SERVERS), known[0])
    pid, name, unit = holder.get("pid"), str(holder.get("name")), str(holder.get("unit", ""))
    who = f"{name} (process {pid}, user {holder.get('user')}, {unit or 'no unit'})"
    ours = snapshot.text("ipc", "namespace")
    elsewhere = holder.get("ipc") and ours and holder.get("ipc") != ours
    shares = "unable to open slave" in "\n".join(evidence)
    if name in _SERVERS:
        return broken("sound-server-holds-microphone", *evidence, who, name=name, stop=_stop(holder))
    if elsewhere and shares:
        namespaces = f"{who} is in {holder.get('ipc')}, {snapshot.user} in {ours}"
        return broken("ipc-namespaces-differ", *evidence, namespaces, name=name)
    return broken("microphone-held", *evidence, who, name=name, pid=pid, stop=_stop(holder))


def _stop(holder: dict[str, Any]) -> str:
    """The command that ends it, and does not have it started again."""
    unit, user = str(holder.get("unit", "")), str(holder.get("user", ""))
    if not _SERVICE.fullmatch(unit):
        return f"kill {int(str(holder.get('pid')))}"
    if not holder.get("users_own"):
        return f"systemctl stop {unit}"
    known = re.fullmatch(r"[\w.\-]+", user)
    return (
        f"systemctl --user --machine={user}@ stop {unit}" if known else f"kill {int(str(holder.get('pid')))}"
    )


def _objects(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The System V objects under the key of the PCM that was listened to."""
    pcm = snapshot.text("alsa", "listened", "pcm")
    keys = re.findall(r"(?m)^\s*ipc_key (\d+)$", snapshot.text("alsa", "definitions", pcm)) or ["20000000"]
    return [
        one
        for one in snapshot.tables("ipc", "objects")
        for key in keys
        if 0 <= one["key"] - int(key) < _SHM_KEYS
    ]


def _forget(snapshot: Snapshot) -> str:
    """The command that removes the objects and starts anew the services that hold the card."""
    objects = [
        f"ipcrm -{'m' if one['kind'] == 'shm' else 's'} {int(one['id'])}" for one in _objects(snapshot)
    ]
    holders = [one for one in snapshot.tables("holders", "list") if not one.get("users_own")]
    units = {str(one.get("unit", "")) for one in holders}
    services = sorted(unit for unit in units if _SERVICE.fullmatch(unit))
    return "; ".join([*objects, *([f"systemctl restart {' '.join(services)}"] if services else [])]) or "true"


def _not_shared(snapshot: Snapshot, host: Snapshot | None, evidence: list[str], error: str) -> Finding:
    objects = _objects(snapshot)
    described = [
        f"{one['kind']} {one['id']} (key {one['key']}): {one['owner']}:{one['group']} {one['mode']}"
        for one in objects
    ]
    inside, outside = snapshot.text("alsa", "version"), host.text("alsa", "version") if host else ""
    if error == "EINVAL" and outside and inside != outside:
        return broken(
            "libasound-differs",
            *evidence,
            f"libasound {inside} and {outside}",
            inside=inside,
            outside=outside,
        )
    definition = snapshot.text("alsa", "definitions", snapshot.text("alsa", "listened", "pcm"))
    if "dsnoop" in definition and "ipc_perm" not in definition:
        pcm = snapshot.text("alsa", "listened", "pcm")
        file = _with(snapshot, lambda one: any(each.get("name") == pcm for each in one.get("defines", [])))
        return broken("ipc-perm-missing", *evidence, *described, file=file, remove=_forget(snapshot))
    if objects:
        return broken("stale-ipc-objects", *evidence, *described, remove=_forget(snapshot))
    return broken("microphone-does-not-open", *evidence, confidence="likely")


def _unsupported(snapshot: Snapshot, evidence: list[str]) -> Finding | None:
    """The shared microphone is set to what the hardware, by its descriptors, does not have."""
    text, has = snapshot.text("alsa", "settings"), snapshot.microphone_card.get("capture", {})
    for setting, cause in (("rate", "rate-unsupported"), ("channels", "channels-unsupported")):
        wanted, offered = (
            re.search(rf"(?m)^mic_{setting} (\d+)$", text),
            has.get("rates" if setting == "rate" else setting),
        )
        if (
            wanted
            and offered
            and int(wanted[1]) not in offered
            and not (setting == "rate" and has.get("continuous"))
        ):
            best = 48000 if setting == "rate" and 48000 in offered else max(offered)
            said = f"the hardware offers {', '.join(map(str, offered))}"
            return broken(
                cause,
                *evidence,
                said,
                wanted=wanted[1],
                offered=", ".join(map(str, offered)),
                best=best,
                remove=_forget(snapshot),
            )
    return None


def sound(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    heard = snapshot.table("alsa", "listened")
    if not heard or heard.get("errno") or not heard.get("frames"):
        return not_seen("sound", "nothing was recorded")
    controls = {
        name: said for name, said in snapshot.table("mixer", "controls").items() if isinstance(said, str)
    }
    card = str(snapshot.table("mixer").get("card", "mic"))
    off = [name for name, said in controls.items() if "[off]" in said or re.search(r"\[0%\]", said)]
    frames, swing = heard["frames"], heard.get("swing")
    said = f"{frames} samples, all of one value" if not swing else f"{frames} samples, swing {swing}"
    if not swing:
        if off:
            return broken(
                "microphone-muted", said, f"{off[0]}: {controls[off[0]]}", control=off[0], card=card
            )
        seen = "; ".join(f"{name}: {state}" for name, state in controls.items()) or snapshot.why("mixer")
        return broken("digital-silence", said, f"mixer: {seen}", confidence="likely")
    return ok("sound", f"{heard.get('pcm')} is heard ({said})")
