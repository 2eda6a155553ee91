"""PortAudio, the agent and its hub."""

from __future__ import annotations

import re

from pinna.doctor.finding import Finding, Snapshot, broken, not_applicable, not_seen, ok
from pinna.errors import ConfigError

_OWN = re.compile(r"^(/usr)?/lib(64)?/[^/]*-linux-[^/]*/|^/usr/lib/lib|^/usr/local/lib/")
_LIBRARY = re.compile(r"/libasound\.so\.[\d.]+$")


def portaudio(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if "portaudio" not in snapshot:
        return not_seen("portaudio", snapshot.why("portaudio"))
    if finding := _foreign(snapshot):
        return finding
    if missing := snapshot.text("portaudio", "missing"):
        if snapshot.is_pinna or snapshot.text("pyaudio", "installed"):
            return broken("portaudio-missing", missing)
        return not_applicable("portaudio", "it is not installed, and nothing seen here needs it")
    if signal := snapshot.text("portaudio", "signal"):
        return broken(
            "portaudio-crashes", *snapshot.said("portaudio")[-3:], f"ended by {signal}", signal=signal
        )
    if seconds := snapshot.table("portaudio").get("timeout"):
        return not_seen("portaudio", f"it did not end in {seconds:g} s")
    if wrong := snapshot.text("pyaudio", "import_error"):
        python = snapshot.text("system", "python")
        return broken(
            "pyaudio-of-another-python", f"{snapshot.text('pyaudio', 'installed')}: {wrong}", python=python
        )
    if "devices" not in snapshot.table("portaudio"):
        error = snapshot.text("portaudio", "started", "error")
        return broken("portaudio-sees-nothing", f"Pa_Initialize: {error}", *snapshot.said("portaudio")[-3:])
    devices = snapshot.tables("portaudio", "devices")
    recording = [str(device.get("name")) for device in devices if device.get("in")]
    if not recording or (snapshot.is_pinna and "shared_mic" not in recording):
        holders = [f"{one.get('name')} ({one.get('pid')})" for one in snapshot.tables("holders", "list")]
        return broken(
            "portaudio-sees-nothing",
            f"it lists {len(devices)} devices; these record: {', '.join(recording) or 'none'}",
            f"holders when it looked: {', '.join(holders) or 'none seen'}",
        )
    return ok("portaudio", f"lists {len(recording)} devices that record, among them {recording[0]}")


def _foreign(snapshot: Snapshot) -> Finding | None:
    """A libasound from elsewhere: by its path, or mounted over this system's own."""
    mounted = {str(mount.get("at")) for mount in snapshot.tables("container", "mounts")}
    for child in ("portaudio", "alsa"):
        for library in snapshot.tables(child, "libraries"):
            path = str(library.get("path"))
            if not _LIBRARY.search(path):
                continue
            over = mounted & {path, str(library.get("real"))}
            if over or not _OWN.search(path):
                environment = snapshot.table("system", "environment")
                why = [f"{key}={value}" for key, value in environment.items()]
                return broken("foreign-libasound", *(f"{at} is a mount" for at in over), *why, file=path)
    return None


def agent(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if snapshot.in_container:
        return not_applicable("agent", "it runs on the host")
    if "unit" not in snapshot:
        return not_seen("agent", snapshot.why("unit"))
    unit = snapshot.table("unit")
    if unit.get("LoadState") != "loaded":
        return not_applicable("agent", "it is not installed here")
    log = snapshot.texts("unit", "log")
    if wrong := snapshot.text("settings", "error"):
        return broken("agent-configuration", wrong)
    state = f"{unit.get('ActiveState')} ({unit.get('SubState')}), {unit.get('Result')}"
    state += f", restarts {unit.get('NRestarts')}"
    if snapshot.number("unit", "check", "code") == ConfigError.exit_code:
        return broken("agent-configuration", snapshot.text("unit", "check", "err"))
    if unit.get("ActiveState") in ("inactive", "deactivating"):
        return broken("agent-stopped", f"{state}, {unit.get('UnitFileState')}")
    if unit.get("SubState") in ("auto-restart", "failed") or unit.get("ActiveState") == "failed":
        return broken("agent-fails", state, *log[-3:])
    if "agent" not in snapshot:
        return not_seen("agent", snapshot.why("agent"))
    if error := snapshot.text("agent", "error"):
        if unit.get("SubState") != "running":
            return not_seen("agent", f"it is just starting: {state}")
        return broken("agent-silent", error, state)
    for name, part in snapshot.table("agent", "components").items():
        if isinstance(part, dict) and part.get("state") == "failed" and name != "link":
            hint = str(part.get("hint") or "`journalctl -u pinna-agent` tells more.")
            return broken("agent-unwell", f"{name}: {part.get('reason')}", part=name, hint=hint)
    frames = snapshot.number("agent", "audio", "frames_captured")
    if not frames:
        return not_seen("agent", "it runs, but has heard nothing yet")
    muted = (
        ", MUTED (`pinna session unmute` ends that)" if snapshot.table("agent").get("muted") is True else ""
    )
    return ok("agent", f"runs{muted}, and has captured {frames} frames")


def hub(snapshot: Snapshot, _host: Snapshot | None) -> Finding:
    if snapshot.in_container:
        return not_applicable("hub", "the agent runs on the host")
    if snapshot.table("agent").get("connected") is True:
        return ok("hub", "connected: sound can flow")
    if snapshot.table("agent").get("resting") is True:
        return ok("hub", "at rest: the voice service is called for each session")
    if snapshot.table("unit").get("LoadState") == "not-found":
        return not_applicable("hub", "the agent is not installed here")
    if "hub" not in snapshot:
        return not_seen("hub", snapshot.why("hub"))
    found, link = snapshot.table("hub"), snapshot.table("agent", "components", "link")
    host, port = found.get("host"), found.get("port")
    said = [str(found.get("error") or ""), str(link.get("reason") or "")]
    causes = {"name": "hub-name-unknown", "refused": "hub-not-running", "tls": "hub-certificate"}
    if kind := str(found.get("kind") or ""):
        return broken(causes.get(kind, "hub-unreachable"), *said, host=host, port=port)
    if "agent" not in snapshot or snapshot.text("agent", "error"):
        return not_seen("hub", f"{host}:{port} answers, but the agent does not tell whether it may come")
    answered = f"GET /health: {found.get('status')}"
    if re.search(r"token|credential|refuse|401|403", said[1], re.I):
        return broken("hub-refuses", *said, answered)
    if link.get("state") == "starting":
        return not_seen("hub", "the agent is just connecting")
    return broken("hub-no-session", *said, answered)
