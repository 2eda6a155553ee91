"""Look at a machine's sound, from the USB bus to the hub, and write what was seen as one JSON object.

Reads only (though libpulse, where ALSA leads to it, makes files of its own, as in any program). Any user may
run it: what could not be seen is under `unseen`, with the reason, and never guessed. One file, standard
library, Python 3.9 or newer, so that it can be piped (hence longer than other modules):

    ssh pi python3 - <collect.py        docker exec -i NAME python3 - <collect.py

Every probe has a thread of its own and the whole has `--seconds`; a probe that hangs is unseen. Sound
libraries run in forked children, one after the other: they may crash, print, hang, or hold the card.
Secrets are never read into the answer, but for one: http.token_file, which goes to the agent alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import glob
import grp
import hashlib
import json
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

SCHEMA = 1
TEXT_BYTES = 64 * 1024  # of a file or a command
LOG_BYTES = 4 << 20  # of the kernel's log, its end
LOG_LINES = 80
MOST = 100  # of any list
RATE, CHANNELS = 48000, 1
LISTEN_FRAMES, PATIENCE_FRAMES = 16000, 96000  # a third of a second; two, while all is silence
AGENT_UNIT, AGENT_USER, AGENT_CONFIG = "pinna-agent.service", "pinna", "/etc/pinna/pinna.toml"
AGENT_PROGRAM = "/opt/pinna/current/bin/pinna"
UNIT_PROPERTIES = (
    "LoadState,ActiveState,SubState,UnitFileState,NRestarts,MainPID,Result,ExecMainStatus,"
    "ExecMainStartTimestampMonotonic"
)
NAMES = ("shared_mic", "shared_speaker", "default")
MODULES = ("snd_usb_audio", "snd_bcm2835", "snd_hda_intel", "vhci_hcd", "usbcore")
ENVIRONMENT = re.compile(r"LD_LIBRARY_PATH|LD_PRELOAD|ALSA_\w+|PULSE_\w+|PIPEWIRE_\w+|PA_ALSA_\w+")
KERNEL_LINES = re.compile(
    r"usb \d|usb_|usbcore|snd|sound|alsa|xhci|dwc2|dwc_otg|vhci|[Uu]nder-?voltage|over-?current|hwmon", re.I
)
CHATTER = re.compile(r"vhci_hcd: (unlink|urb|the urb)|vhci_get_frame_number|usbcore: registered new")
MOUNTS = re.compile(r"^/$|^/dev(/snd|/shm)?(/|$)|asound|alsa|portaudio|^(/usr)?/lib|^/proc/asound")
SECRET = re.compile(
    r"(?i)((?:token|passw|secret|authorization|api[_-]?key)[\w.-]{0,40}[\"']?\s{0,40}[=:]\s{0,40})"
    r"(?:(?:bearer|basic)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;]+)"
)
# No line of alsa.conf's language is searched beyond its end: files may be all blank lines.
DEFINES = re.compile(r"(?m)^[ \t]*pcm\.[!?+-]?(\w+)")
CARDS = re.compile(r"(?m)^(?![ \t]*#).*?(?:\bhw:|\bcard[ \t=]+\"?)(\d+)\b")
PERMS = re.compile(r"(?m)^[ \t]*ipc_perm[ \t=]+(\S+)")
USERINFO = re.compile(r"(\w://)[^/\s@]+@")

Json = Any
Tell = Callable[[str, Json], None]
_children: set[int] = set()


class Unseen(Exception):
    """A probe that could not look; the text says why."""


# --- files and programs


def unblocked(path: str, flags: int) -> int:
    """For `open`: whatever is in a file's place, such as a named pipe, nobody waits for it."""
    return os.open(path, flags | os.O_NONBLOCK)


def read(path: str, limit: int = TEXT_BYTES) -> str:
    """Stripped text; empty when there is none, or not for us."""
    try:
        with open(path, "rb", opener=unblocked) as file:
            return (file.read(limit) or b"").decode("utf-8", "backslashreplace").strip("\0 \n\t")
    except OSError:
        return ""


def run(
    *command: str, seconds: float = 4.0, keep: int = TEXT_BYTES, env: dict[str, str] | None = None
) -> Json:
    """{"code", "out", "err"}: the last `keep` bytes of each. Code 127: not there; 124: not done in time."""
    try:
        program = subprocess.Popen(  # noqa: S603  (fixed programs; names are single arguments)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", **(env or {})},
        )
    except OSError as error:
        return {"code": 127, "out": "", "err": f"{command[0]}: {error.strerror}"}
    _children.add(program.pid)
    said = [bytearray(), bytearray()]
    readers = [
        threading.Thread(target=_drain, args=(stream, kept, keep), daemon=True)
        for stream, kept in ((program.stdout, said[0]), (program.stderr, said[1]))
    ]
    for reader in readers:
        reader.start()
    try:
        code = program.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(program.pid)
        program.wait()
        code = 124
    for reader in readers:
        reader.join(0.5)
    _children.discard(program.pid)
    out, err = (bytes(kept).decode("utf-8", "backslashreplace").strip() for kept in said)
    return {
        "code": code,
        "out": out,
        "err": err if code != 124 else f"{command[0]} did not end in {seconds:g} s",
    }


def _drain(stream: Any, kept: bytearray, keep: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        while block := stream.read1(1 << 16):
            kept += block
            del kept[:-keep]


def kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def names(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern))[:MOST]


def user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def about(path: str) -> Json:
    """Owner, group, mode (octal) and kind of what `path` leads to; None when there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFCHR: "device"}
    return {
        "owner": user_name(found.st_uid),
        "group": group_name(found.st_gid),
        "gid": found.st_gid,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "kind": kinds.get(stat.S_IFMT(found.st_mode), "other"),
    }


# --- who listens


class Subject:
    """Whose sound is examined: the user asked for; else, for root, the agent; else whoever runs this."""

    def __init__(self, wanted: str) -> None:
        self.uid, self.gid, self.groups = os.getuid(), os.getgid(), sorted(os.getgroups())
        self.home = os.path.expanduser("~")
        self.changes = False
        if not wanted and self.uid == 0:
            with contextlib.suppress(KeyError):
                wanted = pwd.getpwnam(AGENT_USER).pw_name
        if wanted and wanted != user_name(self.uid):
            try:
                entry = pwd.getpwnam(wanted)
            except KeyError:
                raise SystemExit(f"there is no user {wanted!r} here") from None
            if self.uid != 0:
                raise SystemExit(f"only root can examine the sound of another user ({wanted})")
            self.uid, self.gid, self.home, self.changes = entry.pw_uid, entry.pw_gid, entry.pw_dir, True
            self.groups = sorted(os.getgrouplist(entry.pw_name, entry.pw_gid))

    def become(self) -> None:
        os.environ["HOME"] = self.home
        if self.changes:
            os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)

    def as_dict(self) -> Json:
        return {
            "user": user_name(self.uid),
            "uid": self.uid,
            "gid": self.gid,
            "groups": self.groups,
            "group_names": [group_name(number) for number in self.groups],
            "home": self.home,
            "ran_as": user_name(os.getuid()),
        }


# --- children that load sound libraries


class Child:
    """A forked process that waits for `answer`, then runs `work(tell)` as the subject.

    Fork before the first thread. The answer: what it told; `said` is its stderr by the step that ended;
    `signal` or `timeout` when it did not end well.
    """

    def __init__(self, work: Callable[[Tell], None], subject: Subject) -> None:
        go, self._go = os.pipe()
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self._pid = os.fork()
        if self._pid:
            for end in (go, out, err):
                os.close(end)
            _children.add(self._pid)
            return
        os.setsid()
        os.close(self._go)
        os.dup2(err, 2)
        with open(os.devnull, "rb+") as null:
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 1)

        def tell(name: str, value: Json) -> None:
            os.write(out, json.dumps({name: value}).encode() + b"\n")
            os.write(2, f"\n\1{name}\n".encode())

        if not os.read(go, 1):
            os._exit(0)
        try:
            subject.become()
            work(tell)
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is what is to be told)
            tell("error", f"{type(error).__name__}: {error}")
        os._exit(0)

    def answer(self, seconds: float) -> Json:
        kept = {self._out: bytearray(), self._err: bytearray()}
        streams = [os.fdopen(fd, "rb") for fd in kept]
        readers = [
            threading.Thread(target=_drain, args=(stream, kept[fd], TEXT_BYTES), daemon=True)
            for stream, fd in zip(streams, kept)
        ]
        for reader in readers:
            reader.start()
        os.write(self._go, b"g")
        deadline, status = time.monotonic() + seconds, 0
        result: dict[str, Json] = {}
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                kill(self._pid)
                os.waitpid(self._pid, 0)
                result["timeout"] = seconds
                break
            time.sleep(0.01)
        _children.discard(self._pid)
        for reader in readers:
            reader.join(0.5)
        if os.WIFSIGNALED(status):
            result["signal"] = signal.Signals(os.WTERMSIG(status)).name
        for line in bytes(kept[self._out]).splitlines():
            with contextlib.suppress(ValueError):
                result.update(json.loads(line))
        said: dict[str, list[str]] = {}
        text = bytes(kept[self._err]).decode("utf-8", "backslashreplace")
        for part in re.finditer(r"(?s)(.*?)(?:\n\x01(\w+)\n|\Z)", text):
            lines = [line for line in part[1].splitlines() if line.strip()][:MOST]
            if lines:
                said[part[2] or "end"] = lines
        return {**result, "said": said}


def mapped(word: str = "asound|portaudio|jack|pulse|pipewire") -> list[str]:
    """The libraries in this process's memory whose name fits."""
    found = re.findall(r"(?m) (/\S+)$", read("/proc/self/maps", 1 << 20))
    return sorted({path for path in found if re.search(word, os.path.basename(path))})


def library(path: str) -> Json:
    real = os.path.realpath(path)
    try:
        with open(real, "rb") as file:
            return {"path": path, "real": real, "sha256": hashlib.sha256(file.read(1 << 24)).hexdigest()}
    except OSError as error:
        return {"path": path, "real": real, "error": str(error.strerror)}


def alsa_child(tell: Tell, wanted: str) -> None:
    """What libasound makes of the configuration, and half a second of the microphone."""
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError as error:
        tell("missing", str(error))
        return
    text, pointer = ctypes.c_char_p, ctypes.c_void_p
    alsa.snd_asoundlib_version.restype = alsa.snd_strerror.restype = text
    for name in ("first", "next", "end", "entry"):
        getattr(alsa, f"snd_config_iterator_{name}").restype = pointer
    tell("version", (alsa.snd_asoundlib_version() or b"").decode())
    tell("libraries", [library(path) for path in mapped()])
    code = alsa.snd_config_update()
    tell("configuration", {"code": code, "error": alsa.snd_strerror(code).decode() if code < 0 else ""})
    root = pointer.in_dll(alsa, "snd_config")
    tell("pcms", _ids(alsa, root, b"pcm"))
    tell("definitions", {name: _definition(alsa, root, f"pcm.{name}") for name in NAMES})
    tell("settings", _definition(alsa, root, "defaults.pinna"))
    tell("listened", _listen(alsa, wanted))
    tell("plugins", [library(path) for path in mapped("asound_module")])


def _node(alsa: Any, root: Any, path: bytes) -> Any:
    node = ctypes.c_void_p()
    return node if root and alsa.snd_config_search(root, path, ctypes.byref(node)) == 0 else None


def _ids(alsa: Any, root: Any, path: bytes) -> list[str]:
    node, found = _node(alsa, root, path), list[str]()
    if node is None:
        return []
    at, end = alsa.snd_config_iterator_first(node), alsa.snd_config_iterator_end(node)
    while at != end and len(found) < MOST:
        name = ctypes.c_char_p()
        alsa.snd_config_get_id(
            ctypes.c_void_p(alsa.snd_config_iterator_entry(ctypes.c_void_p(at))), ctypes.byref(name)
        )
        found.append((name.value or b"").decode("utf-8", "backslashreplace"))
        at = alsa.snd_config_iterator_next(ctypes.c_void_p(at))
    return found


def _definition(alsa: Any, root: Any, path: str) -> str:
    """As libasound has parsed it, in its own words; empty when there is none."""
    node = _node(alsa, root, path.encode())
    out, words = ctypes.c_void_p(), ctypes.c_char_p()
    if node is None or alsa.snd_output_buffer_open(ctypes.byref(out)) < 0:
        return ""
    alsa.snd_config_save(node, out)
    size = alsa.snd_output_buffer_string(out, ctypes.byref(words))
    return ctypes.string_at(words, min(size, 8192)).decode("utf-8", "backslashreplace")


def _listen(alsa: Any, wanted: str) -> Json:
    """Record from `wanted` until it is not all one value: {"pcm", "frames", "swing", "error", "errno", "at"}.

    `swing` is the highest 16-bit sample less the lowest: a deaf card may have an offset.
    """
    pcm, frames = ctypes.c_void_p(), 0
    result: dict[str, Json] = {"pcm": wanted, "frames": 0, "swing": 0, "error": "", "errno": "", "at": "open"}
    samples = (ctypes.c_int16 * 1600)()
    lowest, highest = 32767, -32768
    code = alsa.snd_pcm_open(
        ctypes.byref(pcm), wanted.encode(), 1, 1
    )  # capture, without waiting for the card
    if code == 0:
        result["at"] = "set up"
        alsa.snd_pcm_nonblock(pcm, 0)
        code = alsa.snd_pcm_set_params(pcm, 2, 3, CHANNELS, RATE, 1, 500_000)  # S16_LE, interleaved, plug
    if code == 0:
        result["at"] = "read"
    alsa.snd_pcm_readi.restype = ctypes.c_long
    while code == 0 and frames < (LISTEN_FRAMES if highest > lowest else PATIENCE_FRAMES):
        got = alsa.snd_pcm_readi(pcm, samples, ctypes.c_ulong(len(samples)))
        if got == -errno.EPIPE and not result.get("overrun"):
            result["overrun"] = True
            got = alsa.snd_pcm_prepare(pcm)
        code, frames = (got, frames) if got < 0 else (0, frames + got)
        lowest, highest = min([lowest, *samples[: max(got, 0)]]), max([highest, *samples[: max(got, 0)]])
    result["frames"], result["swing"] = frames, max(0, highest - lowest)
    if code < 0:
        result["error"] = alsa.snd_strerror(code).decode()
        result["errno"] = errno.errorcode.get(-code, str(code))
    return result


class _DeviceInfo(ctypes.Structure):
    """PaDeviceInfo of portaudio.h, version 2, as far as it is read here."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("host_api", ctypes.c_int),
        ("inputs", ctypes.c_int),
        ("outputs", ctypes.c_int),
    )


def portaudio_child(tell: Tell) -> None:
    try:
        portaudio = ctypes.CDLL("libportaudio.so.2")
    except OSError as error:
        tell("missing", str(error))
        return
    portaudio.Pa_GetErrorText.restype = portaudio.Pa_GetVersionText.restype = ctypes.c_char_p
    portaudio.Pa_GetDeviceInfo.restype = ctypes.POINTER(_DeviceInfo)
    tell("version", (portaudio.Pa_GetVersionText() or b"").decode())
    tell("libraries", [library(path) for path in mapped()])
    code = portaudio.Pa_Initialize()
    tell("started", {"code": code, "error": "" if code == 0 else portaudio.Pa_GetErrorText(code).decode()})
    if code == 0:
        found = [
            portaudio.Pa_GetDeviceInfo(number).contents for number in range(portaudio.Pa_GetDeviceCount())
        ]
        tell(
            "devices",
            [
                {
                    "name": (one.name or b"").decode("utf-8", "backslashreplace"),
                    "in": one.inputs,
                    "out": one.outputs,
                }
                for one in found[:MOST]
            ],
        )
        portaudio.Pa_Terminate()


def pyaudio_child(tell: Tell) -> None:
    from importlib.util import find_spec  # noqa: PLC0415  (slow, and used here alone)

    spec = find_spec("pyaudio")
    if spec is None:
        tell("installed", "")
        return
    tell("installed", spec.origin or "yes")
    try:
        import pyaudio  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415  (it may not be there)
    except ImportError as error:
        tell("import_error", str(error))
        return
    audio = pyaudio.PyAudio()
    tell("devices", audio.get_device_count())
    audio.terminate()


# --- probes, by name


def kind_of_container(root: str, exists: Callable[[str], bool]) -> str:
    """Empty when this is none. `root` is its line of /proc/self/mountinfo.

    A root on an overlay is a container's, but also a Pi's whose card is kept read-only (raspi-config): there,
    systemd is in charge, and names no container.
    """
    kinds = {"/.dockerenv": "docker", "/run/.containerenv": "podman", "/run/systemd/container": "container"}
    for file, kind in kinds.items():
        if exists(file):
            return kind
    like_one = re.search(r"overlay|containers", root) and not exists("/run/systemd/system")
    return "container" if like_one else ""


def system() -> Json:
    release = dict(re.findall(r'(?m)^([A-Z_]+)="?([^"\n]*)"?$', read("/etc/os-release")))
    root = next(
        (line for line in read("/proc/self/mountinfo").splitlines() if line.split()[4:5] == ["/"]), ""
    )
    return {
        "name": release.get("PRETTY_NAME", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "model": read("/proc/device-tree/model"),
        "container": kind_of_container(root, os.path.exists),
        "host": socket.gethostname(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "proc": os.path.exists("/proc/self/status"),
        "environment": {key: value for key, value in os.environ.items() if ENVIRONMENT.fullmatch(key)},
    }


def usb() -> Json:
    if not os.path.isdir("/sys/bus/usb/devices"):
        raise Unseen("there is no /sys/bus/usb here")
    devices = []
    for path in names("/sys/bus/usb/devices/*-*"):
        if ":" in path:
            continue
        interfaces = [
            {
                "name": interface.rsplit("/", 1)[1],
                "class": read(f"{interface}/bInterfaceClass"),
                "driver": os.path.basename(os.path.realpath(f"{interface}/driver"))
                if os.path.exists(f"{interface}/driver")
                else "",
            }
            for interface in names(f"{glob.escape(path)}:*")
        ]
        devices.append(
            {
                "port": path.rsplit("/", 1)[1],
                "id": f"{read(f'{path}/idVendor')}:{read(f'{path}/idProduct')}",
                "product": read(f"{path}/product"),
                "serial": read(f"{path}/serial"),
                "speed": read(f"{path}/speed"),
                "power_ma": read(f"{path}/bMaxPower"),
                "control": read(f"{path}/power/control"),
                "runtime": read(f"{path}/power/runtime_status"),
                "authorized": read(f"{path}/authorized"),
                "audio": any(one["class"] == "01" for one in interfaces),
                "hub": read(f"{path}/bDeviceClass") == "09",
                "interfaces": interfaces,
            }
        )
    return devices


def power() -> Json:
    """The supply, where the kernel has Raspberry Pi's sensor; the sensor latches below 4.63 V."""
    for folder in names("/sys/class/hwmon/hwmon*"):
        if read(f"{folder}/name") == "rpi_volt":
            return {"sensor": "rpi_volt", "low": read(f"{folder}/in0_lcrit_alarm")}
    raise Unseen("this kernel has no sensor of the supply (rpi_volt)")


def modules() -> Json:
    loaded = [line.split()[0] for line in read("/proc/modules", 1 << 20).splitlines()]
    if not loaded:
        raise Unseen("/proc/modules is not there or empty")
    release = os.uname().release
    forbidden = []
    for path in (
        names("/etc/modprobe.d/*.conf") + names("/run/modprobe.d/*.conf") + names("/lib/modprobe.d/*.conf")
    ):
        for number, line in enumerate(read(path).splitlines(), 1):
            found = re.match(r"\s*(blacklist|install)\s+(snd[-_]usb[-_]audio)\b\s*(.*)", line)
            if found and (found[1] == "blacklist" or re.search(r"\b(false|true)\b", found[3])):
                forbidden.append({"file": path, "line": number, "text": line.strip()})
    folder = f"/lib/modules/{release}"
    return {
        "loaded": [name for name in loaded if name.startswith("snd") or name in MODULES],
        "forbidden": forbidden,
        "folder": os.path.isdir(folder),
        "kernels": [os.path.basename(path) for path in names("/lib/modules/*")],
        "has_usb_audio": bool(names(f"{folder}/kernel/sound/usb/snd-usb-audio.ko*"))
        or "snd-usb-audio" in read(f"{folder}/modules.builtin", 1 << 20),
    }


def kernel_log() -> Json:
    said = run("dmesg", "--kernel", keep=LOG_BYTES)
    if said["code"]:
        said = run("dmesg", keep=LOG_BYTES)  # busybox
    if said["code"]:
        raise Unseen(f"the kernel's log: {said['err'][-200:] or 'dmesg failed'}")
    lines = [
        line[:300]
        for line in said["out"].splitlines()
        if KERNEL_LINES.search(line) and not CHATTER.search(line)
    ]
    return lines[-LOG_LINES:]


def cards() -> Json:
    if not os.path.isdir("/sys/class"):
        raise Unseen("there is no /sys/class here")
    found = []
    for path in names("/sys/class/sound/card[0-9]*"):
        number = path.rsplit("card", 1)[1]
        interface = os.path.realpath(f"{path}/device")
        is_usb = os.path.basename(os.path.realpath(f"{interface}/subsystem")) == "usb"
        stream = read(f"/proc/asound/card{number}/stream0")
        playback, _, capture = stream.partition("Capture:")
        found.append(
            {
                "number": int(number),
                "id": read(f"{path}/id"),
                "usb": os.path.basename(os.path.dirname(interface)) if is_usb else "",
                "records": bool(names(f"{path}/pcmC{number}D*c")),
                "plays": bool(names(f"{path}/pcmC{number}D*p")),
                "capture": _formats(capture),
                "playback": _formats(playback),
            }
        )
    return found


def _formats(stream: str) -> Json:
    """What /proc/asound/cardN/stream0 says of one direction; a range of rates as it is written."""
    rates = re.findall(r"Rates: (.*)", stream)
    return {
        "formats": sorted(set(re.findall(r"Format: (\S+)", stream))),
        "channels": sorted({int(count) for count in re.findall(r"Channels: (\d+)", stream)}),
        "rates": sorted({int(rate) for line in rates for rate in re.findall(r"\d+", line)}),
        "continuous": any("continuous" in line for line in rates),
    }


def nodes(subject: Subject) -> Json:
    found = {}
    for path in names("/dev/snd/*C*"):
        allowed = about(path) or {}
        groups = {subject.gid, *subject.groups}
        mode = int(allowed.get("mode", "0"), 8)
        owner = allowed.get("owner") == user_name(subject.uid)
        shift = 6 if owner else 3 if allowed.get("gid") in groups else 0
        allowed["allows"] = subject.uid == 0 or (mode >> shift) & 6 == 6
        if "controlC" in path:
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                allowed["open"] = ""
            except OSError as error:
                allowed["open"] = errno.errorcode.get(error.errno or 0, str(error.errno))
        found[path] = allowed
    return {"folder": about("/dev/snd"), "nodes": found}


def users() -> Json:
    try:
        audio = grp.getgrnam("audio")
    except KeyError:
        raise Unseen("there is no group audio here") from None
    return {"audio_gid": audio.gr_gid, "members": sorted(audio.gr_mem)[:MOST]}


def alsa_files(subject: Subject) -> Json:
    """Each file that libasound reads, in its order, and where it defines a PCM."""
    config = os.environ.get("ALSA_CONFIG_PATH", "/usr/share/alsa/alsa.conf")
    personal = [f"{subject.home}/.asoundrc", f"{subject.home}/.config/alsa/asoundrc"]
    paths = [*config.split(":"), *names("/etc/alsa/conf.d/*.conf"), "/etc/asound.conf", *personal]
    found = []
    for path in paths:
        facts = about(path)
        if facts is None and path in (*paths[:1], "/etc/asound.conf"):
            dangling = os.path.islink(path)
            found.append({"path": path, "kind": "dangling link" if dangling else "missing"})
        elif facts is not None:
            text = read(path) if facts["kind"] == "file" else ""
            defines = [
                {"name": match[1], "line": text.count("\n", 0, match.start(1)) + 1}
                for match in DEFINES.finditer(text)
                if match[1] in NAMES
            ]
            cards, perms = CARDS.findall(text), PERMS.findall(text)
            digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
            is_pinna = "defaults.pinna" in text
            facts.update(path=path, defines=defines, sha256=digest, cards=cards, perms=perms, pinna=is_pinna)
            facts["readable"] = bool(text) or os.access(path, os.R_OK)
            found.append(facts)
    return found


def udev() -> Json:
    path = "/etc/udev/rules.d/70-pinna-audio.rules"
    return {"rule": os.path.exists(path), "runs": os.path.exists("/run/udev/control")}


def holders() -> Json:
    """Processes that hold a sound device: by their open files, or by what the kernel says of each stream."""
    found: dict[int, set[str]] = {}
    blind = 0
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            for entry in os.scandir(f"{folder}/fd"):
                target = os.readlink(entry.path)
                if target.startswith("/dev/snd/"):
                    found.setdefault(int(folder[6:]), set()).add(target)
        except PermissionError:
            blind += 1
        except OSError:
            continue
    for path in names("/proc/asound/card[0-9]*/pcm*/sub*/status"):
        owner = re.search(r"owner_pid\s*:\s*(\d+)", read(path))
        where = re.search(r"card(\d+)/pcm(\d+)([cp])", path)
        if owner and where and int(owner[1]):
            node = f"/dev/snd/pcmC{where[1]}D{where[2]}{where[3]}"
            found.setdefault(int(owner[1]), set()).add(node)
    if not names("/proc/[0-9]*"):
        raise Unseen("there is no /proc here")
    return {
        "complete": blind == 0,
        "list": [_holder(pid, where) for pid, where in sorted(found.items())][:MOST],
    }


def _holder(pid: int, where: Iterable[str]) -> Json:
    groups = read(f"/proc/{pid}/cgroup")
    unit = re.findall(r"([^/\n]+\.(?:service|scope))\s*$", groups)
    try:
        owner = user_name(os.stat(f"/proc/{pid}").st_uid)
        shares = os.readlink(f"/proc/{pid}/ns/ipc")
    except OSError:
        owner, shares = "", ""
    maps = re.findall(r"(?m) (/\S*libasound\.so\S*)$", read(f"/proc/{pid}/maps", 4 << 20))
    name = read(f"/proc/{pid}/comm")
    return {
        "pid": pid,
        "name": name,
        "user": owner,
        "unit": unit[-1] if unit else "",
        "users_own": "/user.slice/" in groups,
        "nodes": sorted(where),
        "ipc": shares,
        "libasound": sorted(set(maps)),
    }


def ipc() -> Json:
    """System V objects (proc(5), /proc/sysvipc), of which dsnoop and dmix keep theirs."""
    found = []
    for kind, id_at, perms_at in (("shm", 1, 2), ("sem", 1, 2)):
        text = read(f"/proc/sysvipc/{kind}", 1 << 20)
        if not text:
            raise Unseen(f"/proc/sysvipc/{kind} is not there")
        header, *rows = text.splitlines()
        at = {name: number for number, name in enumerate(header.split())}
        for row in rows:
            cells = row.split()
            if int(cells[0]) == 0:
                continue
            found.append(
                {
                    "kind": kind,
                    "key": int(cells[0]) & 0xFFFFFFFF,
                    "id": int(cells[id_at]),
                    "mode": f"{int(cells[perms_at], 8) & 0o777:04o}",
                    "owner": user_name(int(cells[at["uid"]])),
                    "group": group_name(int(cells[at["gid"]])),
                    "attached": int(cells[at["nattch"]]) if "nattch" in at else None,
                }
            )
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/ipc")
    return {"namespace": namespace, "objects": found[:MOST]}


def sound_servers() -> Json:
    wanted = {"pipewire", "wireplumber", "pipewire-pulse", "pulseaudio", "jackd"}
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        if (name := read(path)) in wanted:
            found.append({"name": name, "pid": int(path.split("/")[2])})
    return found[:MOST]


def mixer(card: str) -> Json:
    """Controls that record, of one card, in amixer's words."""
    if not card:
        raise Unseen("no card records")
    said = run("amixer", "-c", card, "scontents")
    if said["code"]:
        raise Unseen(
            f"the mixer of card {card}: {said['err'].splitlines()[0] if said['err'] else 'amixer failed'}"
        )
    controls: dict[str, str] = {}
    name = ""
    for line in said["out"].splitlines():
        if header := re.match(r"Simple mixer control '(.+)',\d+$", line):
            name = header[1]
        elif "Capture" in line and "[" in line:
            controls[name] = f"{controls.get(name, '')} {line.strip()}".strip()
    return {"card": card, "controls": controls}


def container() -> Json:
    found = []
    for line in read("/proc/self/mountinfo", 1 << 20).splitlines():
        fields = line.split()
        target = fields[4]
        if MOUNTS.search(target) and "-" in fields:
            kind, source = fields[fields.index("-") + 1 :][:2]
            found.append(
                {"at": target, "root": fields[3], "type": kind, "source": source, "options": fields[5]}
            )
    status = read("/proc/self/status")
    capabilities = re.search(r"CapEff:\s*(\w+)", status)
    return {"mounts": found[:MOST], "capabilities": capabilities[1] if capabilities else ""}


def settings(config: str) -> Json:
    """What the agent is told, or {"error"}; only what the doctor needs, and no secrets."""
    try:
        import tomllib  # noqa: PLC0415  (not in Python 3.9 and 3.10)
    except ImportError:
        raise Unseen("reading the agent's configuration takes Python 3.11") from None
    try:
        with open(config, "rb", opener=unblocked) as file:
            told = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise Unseen(f"{config} is not for us to read") from None
    except (OSError, ValueError, RecursionError) as error:
        return {"error": f"{config}: {error}"}
    tables = {
        name: (told[name] if isinstance(told.get(name), dict) else {}) for name in ("audio", "hub", "http")
    }
    return {
        "device_id": str(told.get("device_id", "")),
        "input": str(tables["audio"].get("input", "default")),
        "output": str(tables["audio"].get("output", "default")),
        "hub": str(tables["hub"].get("url", "")),
        "http": [tables["http"].get("host", "127.0.0.1"), tables["http"].get("port", 8081)],
        "http_token_file": str(tables["http"].get("token_file", "")),
    }


def unit(config: str, seconds: float) -> Json:
    """What systemd says of the agent; `check`, unless it runs with the configuration as it is."""
    shown = run("systemctl", "show", "-p", UNIT_PROPERTIES, AGENT_UNIT, seconds=seconds)
    if shown["code"]:
        raise Unseen(f"systemctl: {shown['err'].splitlines()[-1] if shown['err'] else 'failed'}")
    found = dict(line.split("=", 1) for line in shown["out"].splitlines() if "=" in line)
    if found.get("LoadState") == "loaded":
        log = run("journalctl", "-u", AGENT_UNIT, "-n", "5", "-p", "warning", "-o", "cat", "--no-pager")
        found["log"] = [line[:500] for line in log["out"].splitlines()[-5:]]
        if not _accepted(found, config):
            found["check"] = run(AGENT_PROGRAM, "config", "check", config, seconds=seconds)
    return found


def _accepted(found: dict[str, str], config: str) -> bool:
    """Whether the agent began after the file's last change, and runs: else to check it takes a Pi seconds."""
    try:
        unchanged_for = time.time() - os.stat(config).st_ctime
        runs_for = time.monotonic() - int(found.get("ExecMainStartTimestampMonotonic", "")) / 1e6
    except (OSError, ValueError):
        return False
    return found.get("SubState") == "running" and unchanged_for > runs_for


def ask(host: str, port: int, path: str, tls: bool, token: str = "", *, seconds: float) -> Json:
    """GET by hand, as importing urllib takes an emulated Pi two seconds: {"status", "body"}; or OSError."""
    connection = socket.create_connection((host, port), seconds)
    with contextlib.closing(connection):
        if tls:
            import ssl  # noqa: PLC0415  (slow; only for https)

            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
        lines = [
            f"GET {path} HTTP/1.0",
            f"Host: {host}",
            *([f"Authorization: Bearer {token}"] if token else []),
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer, deadline = b"", time.monotonic() + seconds
        while len(answer) < 4 * TEXT_BYTES and time.monotonic() < deadline:
            block = connection.recv(1 << 16)
            if not block:
                break
            answer += block
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return {"status": int(status[1]) if status else 0, "body": answer.partition(b"\r\n\r\n")[2]}


def agent(told: Json, seconds: float) -> Json:
    """What the agent's /health says of its components; {"error"} when there is no answer."""
    if not told or "http" not in told:
        raise Unseen("the agent's configuration is not there or not readable")
    host, port = told["http"]
    try:
        token = read(told["http_token_file"], 4096)
        answer = ask(str(host), int(port), "/health", False, token, seconds=seconds)
        body = json.loads(answer["body"])
        components = {name: dict(one) for name, one in body["components"].items()}
        audio = {
            key: body["audio"].get(key) for key in ("frames_captured", "microphone_dbfs", "streams_opened")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {"error": f"http://{host}:{port}/health: {error}"}
    return {
        "connected": body.get("connected"),
        "resting": body.get("resting"),
        "muted": (body.get("session") or {}).get("state") == "muted",
        "uptime_seconds": body.get("uptime_seconds"),
        "frames_sent": body.get("mic_frames_sent"),
        "components": components,
        "audio": audio,
    }


def hub(told: Json, seconds: float) -> Json:
    """Whether something answers where the hub should be: {"host", "port", "error" | "status"}."""
    found = re.match(
        r"(https?|wss?)://(?:[^/@]*@)?(\[[^\]]+\]|[^/:]+)(?::(\d+))?", (told or {}).get("hub", "")
    )
    if found is None:
        raise Unseen("the agent's configuration names no hub that could be asked")
    tls = found[1] in ("https", "wss")
    host, port = found[2].strip("[]"), int(found[3] or (443 if tls else 80))
    result: dict[str, Json] = {"host": host, "port": port, "error": "", "kind": "", "status": 0}
    try:
        result["status"] = ask(host, port, "/health", tls, seconds=seconds)["status"]
    except socket.gaierror as error:
        result.update(kind="name", error=str(error.strerror))
    except socket.timeout:
        result.update(kind="timeout", error=f"no answer in {seconds:g} s")
    except OSError as error:
        kind = "refused" if error.errno == errno.ECONNREFUSED else "network"
        result.update(kind="tls" if "SSL" in type(error).__name__ else kind, error=str(error))
    return result


# --- all together


def look(seconds: float, wanted_user: str, config: str, listen: bool) -> Json:
    """The snapshot, within `seconds` and a little."""
    began, subject = time.monotonic(), Subject(wanted_user)
    snapshot: dict[str, Json] = {"schema": SCHEMA, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    snapshot["subject"] = subject.as_dict()
    seen: dict[str, Json] = {}
    unseen: dict[str, str] = {}
    try:
        told = settings(config)
        seen["settings"] = told
    except Unseen as why:
        told, unseen["settings"] = {}, str(why)
    pcm = told.get("input", "") if re.fullmatch(r"\w+(:[\w,=]+)?", told.get("input", "")) else ""
    shared = any(file.get("pinna") for file in alsa_files(subject) if file["path"] == "/etc/asound.conf")
    pcm = pcm if pcm and pcm != "default" and shared else "shared_mic" if shared else "default"
    sound = {
        "alsa": Child(lambda tell: alsa_child(tell, pcm), subject),
        "portaudio": Child(portaudio_child, subject),
        "pyaudio": Child(pyaudio_child, subject),
    }
    first = {path.rsplit("card", 1)[1]: path for path in names("/sys/class/sound/card[0-9]*")}
    recording = next(
        (n for n, path in first.items() if names(f"{path}/pcmC{n}D*c") and read(f"{path}/id") == "mic"), ""
    )
    recording = recording or next((n for n, path in first.items() if names(f"{path}/pcmC{n}D*c")), "")

    def sounds() -> None:
        """Holders first: our own children hold the card, too."""
        probe("holders", holders)
        probe("ipc", ipc)
        for name, child in sound.items():
            if listen:
                probe(name, lambda child=child: child.answer(seconds * 0.45))  # type: ignore[misc]
            else:
                unseen[name] = "not asked to listen"

    def probe(name: str, work: Callable[[], Json]) -> None:
        try:
            seen[name] = work()
        except Unseen as why:
            unseen[name] = str(why)
        except Exception as error:  # noqa: BLE001  (one probe must not cost the others)
            unseen[name] = f"{type(error).__name__}: {error}"

    probes: dict[str, Callable[[], Json]] = {
        "system": system,
        "usb": usb,
        "power": power,
        "modules": modules,
        "kernel_log": kernel_log,
        "cards": cards,
        "nodes": lambda: nodes(subject),
        "users": users,
        "alsa_files": lambda: alsa_files(subject),
        "udev": udev,
        "sound_servers": sound_servers,
        "mixer": lambda: mixer(recording),
        "container": container,
        "unit": lambda: unit(config, seconds / 2),
        "agent": lambda: agent(told, seconds * 0.4),
        "hub": lambda: hub(told, seconds * 0.4),
    }
    threads = {
        name: threading.Thread(target=probe, args=item, daemon=True)
        for name, item in ((name, (name, work)) for name, work in probes.items())
    }
    threads["sound"] = threading.Thread(target=sounds, daemon=True)
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, began + seconds - time.monotonic()))
    for name in (*probes, "holders", "ipc", *sound):
        if name not in seen and name not in unseen:
            unseen[name] = f"did not answer in {seconds:g} s"
    snapshot.update(dict(seen))
    snapshot["unseen"] = dict(unseen)
    snapshot["seconds"] = round(time.monotonic() - began, 2)
    return snapshot


def clean(value: Json) -> Json:
    """Without secrets, and without what JSON or a terminal cannot carry."""
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in list(value.items())}
    if isinstance(value, (list, tuple)):
        return [clean(each) for each in value]
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return USERINFO.sub(r"\1***@", SECRET.sub(r"\1***", text))
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        "collect", description="What is to be seen of this machine's sound, as JSON."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long all of it may take")
    parser.add_argument("--user", default="", help="examine the sound of this user (takes root)")
    parser.add_argument("--config", default=AGENT_CONFIG, help="the agent's configuration")
    parser.add_argument("--deaf", action="store_true", help="open no sound device")
    options = parser.parse_args()
    snapshot = look(options.seconds, options.user, options.config, not options.deaf)
    sys.stdout.write(json.dumps(clean(snapshot)) + "\n")
    sys.stdout.flush()
    for pid in tuple(_children):
        kill(pid)
    os._exit(0)  # threads of probes that hang would hold us


if __name__ == "__main__":
    main()
