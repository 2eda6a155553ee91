"""The catalogue: every cause the doctor can name, what people see of it, and its cure. One table.

`commands` are run as root, in order, where the cause is; the checks fill in `{names}`.
docs/troubleshooting/README.md has one heading for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SITE: Final = "ansible-playbook -i inventory.ini ansible/site.yml"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain. It is called broken only while none that it needs is: else it waits for that."""

    id: str
    title: str
    needs: tuple[str, ...] = ()


LINKS: Final = {
    link.id: link
    for link in (
        Link("power", "supply"),
        Link("usb", "USB device"),
        Link("driver", "kernel driver", ("usb",)),
        Link("card", "sound card", ("usb", "driver")),
        Link("alsa", "ALSA configuration"),
        Link("access", "permission", ("usb", "driver", "card")),
        Link("sharing", "opening it", ("usb", "driver", "card", "alsa", "access")),
        Link("sound", "sound", ("usb", "driver", "card", "alsa", "access", "sharing")),
        Link("portaudio", "PortAudio", ("usb", "driver", "card", "alsa", "access", "sharing")),
        Link("agent", "agent", ("usb", "driver", "card", "alsa", "access", "sharing", "portaudio")),
        Link("hub", "hub", ("agent",)),
    )
}


@dataclass(frozen=True, slots=True)
class Cause:
    """`seen`: the symptoms, in the words that programs say. `advice`: the cure in words."""

    id: str
    link: str
    title: str
    seen: str
    advice: str
    commands: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The commands for a reader: names stay in braces, doubled braces are one."""
        return tuple(command.replace("{{", "{").replace("}}", "}") for command in self.commands)


_ALL: Final = (
    Cause(
        "undervoltage",
        "power",
        "the supply's voltage is too low",
        "USB devices reset, sound drops out under load; the kernel says `Undervoltage detected!`.",
        "Use the board's own supply and a short, thick cable; move power-hungry USB devices to a "
        "powered hub.",
    ),
    Cause(
        "usb-overcurrent",
        "power",
        "a USB port draws more current than it may",
        "The kernel says `over-current`; devices vanish.",
        "Unplug the device that draws too much, or put it on a powered hub.",
    ),
    Cause(
        "no-usb-microphone",
        "usb",
        "there is no USB sound device",
        "`lsusb` does not list the microphone.",
        "Plug the microphone in; try another cable and another port, without a hub between.",
    ),
    Cause(
        "usb-unstable",
        "usb",
        "the kernel cannot talk to a USB device",
        "`device descriptor read/64, error -71`, `unable to enumerate USB device`: cable, port or power.",
        "Another cable, another port, a powered hub. Then plug it in again.",
    ),
    Cause(
        "usb-deauthorized",
        "usb",
        "the USB sound device is switched off by its `authorized` file",
        "`lsusb` lists it; no driver takes it.",
        "Somebody, or a program such as usbguard, has switched it off: switch it on.",
        ("echo 1 >/sys/bus/usb/devices/{port}/authorized",),
    ),
    Cause(
        "usb-autosuspend",
        "usb",
        "the microphone is sent to sleep while nobody records",
        "The first seconds of sound are missing, or the device gets lost.",
        "Keep it awake now; role audio of the playbook keeps it awake for good.",
        ("echo on >/sys/bus/usb/devices/{port}/power/control",),
    ),
    Cause(
        "driver-blacklisted",
        "driver",
        "the driver snd_usb_audio is forbidden",
        "`lsusb` lists the microphone, `arecord -l` does not.",
        "Remove the line that forbids it, and load it.",
        (
            "sed -i -E '/^[[:space:]]*(blacklist|install)[[:space:]]+snd[-_]usb[-_]audio/d' '{file}'",
            "modprobe snd_usb_audio",
        ),
    ),
    Cause(
        "driver-not-loaded",
        "driver",
        "the driver snd_usb_audio is not loaded",
        "`lsusb` lists the microphone, `arecord -l` does not.",
        "Load it.",
        ("modprobe snd_usb_audio",),
    ),
    Cause(
        "kernel-replaced",
        "driver",
        "the running kernel's modules are gone",
        "`modprobe: FATAL: Module … not found in directory /lib/modules/…`, after an update of the kernel.",
        "The kernel was updated and the old one still runs: start the new one.",
        ("reboot",),
    ),
    Cause(
        "driver-missing",
        "driver",
        "the running kernel has no snd_usb_audio",
        "`modprobe: FATAL: Module snd_usb_audio not found`.",
        "Use a kernel with sound drivers: Debian's linux-image-arm64 or Raspberry Pi OS's own, not a "
        "cloud kernel.",
    ),
    Cause(
        "driver-unbound",
        "driver",
        "the driver is loaded, but has not taken the microphone",
        "`lsusb` lists it, `arecord -l` does not, though `lsmod` lists snd_usb_audio.",
        "Give it to the driver. If that fails, the kernel's log says why.",
        ("echo '{interface}' >/sys/bus/usb/drivers/snd-usb-audio/bind",),
    ),
    Cause(
        "card-cannot-record",
        "card",
        "no sound card records",
        "`arecord -l` lists nothing, `aplay -l` does.",
        "What is plugged in only plays. Plug a microphone in.",
    ),
    Cause(
        "card-not-named",
        "card",
        "the microphone's card does not have the name `{card}`",
        "`cannot find card 'mic'`; programs that name the card by its number get another one after a reboot.",
        "Let udev name it. With two microphones, audio_mic_serial or audio_mic_port says which: see "
        "docs/provisioning.md.",
        (
            "udevadm control --reload",
            "udevadm trigger --action=change --settle --subsystem-match=sound",
        ),
    ),
    Cause(
        "naming-rule-missing",
        "card",
        "the rule that names the microphone's card is gone",
        "`cannot find card 'mic'` since the card was plugged in again, or since the last boot.",
        f"On the controller: {SITE} --tags audio",
    ),
    Cause(
        "card-number-changed",
        "alsa",
        "the configuration names card {card} by its number, and there is none",
        "It worked until the last boot: `cannot find card '1'`, or another card's sound. Numbers change.",
        "Name the card by its ALSA id (`mic`), never by a number.",
        (
            r"sed -i -E 's/\b(plug)?hw:{card}\b/\1hw:{id}/g' '{file}'",
            r"""sed -i -E 's/(\bcard[[:space:]=]+"?){card}\b/\1{id}/g' '{file}'""",
        ),
    ),
    Cause(
        "libasound-missing",
        "alsa",
        "libasound is not installed",
        "`cannot open shared object file: libasound.so.2`. Debian 13 calls the package "
        "libasound2t64: libasound2 has "
        "`no installation candidate` there.",
        "Install it from the same Debian release as the machine whose sound it shares.",
        ("apt-get update", "apt-get install -y {package}"),
    ),
    Cause(
        "alsa-conf-missing",
        "alsa",
        "{file}, which all of ALSA's configuration starts from, is missing or not readable",
        "Programs on PortAudio die of SIGABRT without a word; others say `cannot access file …/alsa.conf`.",
        "Install it anew; mount nothing over /usr/share/alsa.",
        ("apt-get update", "apt-get install --reinstall -y libasound2-data"),
    ),
    Cause(
        "asound-conf-missing",
        "alsa",
        "/etc/asound.conf, which defines shared_mic, is missing",
        "`Unknown PCM shared_mic`.",
        f"On the controller: {SITE} --tags audio. For a container: mount the host's file.",
    ),
    Cause(
        "alsa-conf-is-a-folder",
        "alsa",
        "{file} is a folder, not a file",
        "Settings have no effect. Docker makes a folder of a bind mount's source that is not there.",
        "Remove the folder, put the file there; for containers use --mount type=bind, which fails instead.",
        ("rmdir '{file}'",),
    ),
    Cause(
        "alsa-conf-unreadable",
        "alsa",
        "{file} is not readable for {user}",
        "Sound works for root, not for others.",
        "Let everybody read it.",
        ("chmod a+r '{file}'",),
    ),
    Cause(
        "alsa-syntax-error",
        "alsa",
        "{file} has a syntax error",
        "ALSA drops all of the configuration: `Unknown PCM default`, PortAudio's constructor fails "
        "with -9999.",
        "Mend the line that the doctor shows, or set the file aside.",
        ("mv '{file}' '{file}.broken'",),
    ),
    Cause(
        "pcm-redefined",
        "alsa",
        "{file} defines {pcm} again, and the last definition wins",
        "No error at all: programs get another device than meant.",
        "Keep one definition: set the file aside, or remove the lines that the doctor shows.",
        ("mv '{file}' '{file}.aside'",),
    ),
    Cause(
        "ipc-perm-invalid",
        "alsa",
        "ipc_perm in {file} is not a file mode",
        "`The field ipc_perm must be a valid file permission`: it is written without the leading 0.",
        "Write the 0.",
        (r"sed -i -E 's/(ipc_perm[[:space:]=]+)([1-7][0-7]{{2}})\b/\10\2/' '{file}'",),
    ),
    Cause(
        "alsa-plugin-missing",
        "alsa",
        "the configuration asks for ALSA's plugin {plugin}, which is not installed",
        "`Cannot open shared library libasound_module_pcm_….so`.",
        "Install the plugins, or remove the definition that asks for it.",
        ("apt-get update", "apt-get install -y libasound2-plugins"),
    ),
    Cause(
        "device-nodes-missing",
        "access",
        "/dev/snd lacks the card's device files",
        "`arecord -l` says `no soundcards found`, /sys/class/sound lists the card.",
        "Somebody removed them; the kernel makes them when the device is plugged in: plug it out and in.",
        (
            "echo 0 >/sys/bus/usb/devices/{port}/authorized",
            "echo 1 >/sys/bus/usb/devices/{port}/authorized",
        ),
    ),
    Cause(
        "user-not-in-audio",
        "access",
        "{user} is not in group audio",
        "`cannot find card '0'`, `no soundcards found`, though /dev/snd is there and root hears.",
        "Add the user to the group; programs that run already must be started anew, people must log in anew.",
        ("usermod -aG audio {user}",),
    ),
    Cause(
        "node-permissions",
        "access",
        "{node} is {owner}:{group} {mode}, not root:audio 0660",
        "Root hears, members of group audio do not.",
        "Let udev set it. If that does not last, a rule in /etc/udev/rules.d takes it away.",
        (
            "udevadm trigger --action=change --settle --subsystem-match=sound",
            "chgrp audio /dev/snd/*C*",
            "chmod 0660 /dev/snd/*C*",
        ),
    ),
    Cause(
        "container-without-devices",
        "access",
        "the container has no /dev/snd",
        "PyAudio sees 0 devices in the container, `arecord -l` works outside.",
        "Start it with a bind mount of /dev/snd and `--device-cgroup-rule 'c 116:* rmw'`; never with "
        "--privileged.",
    ),
    Cause(
        "container-device-rule",
        "access",
        "the container may not use ALSA's devices",
        "`Operation not permitted` on /dev/snd/…, though its mode would allow it.",
        "Start it with `--device-cgroup-rule 'c 116:* rmw'` (compose: device_cgroup_rules).",
    ),
    Cause(
        "container-old-devices",
        "access",
        "the card was plugged in after the container started, which has only the older ones",
        "The host lists the card, the container does not.",
        "Bind-mount the folder /dev/snd, with `--device-cgroup-rule 'c 116:* rmw'`, in place of "
        "--device /dev/snd.",
    ),
    Cause(
        "container-without-group",
        "access",
        "the container's user is not in the host's group audio ({gid})",
        "`cannot find card '0'` in the container, though /dev/snd is there.",
        "Start it with `--group-add {gid}`: the number, as names differ between images.",
    ),
    Cause(
        "sound-server-holds-microphone",
        "sharing",
        "the sound server {name} holds the microphone",
        "`Device or resource busy`; PortAudio leaves the device out of its list.",
        "Keep the server away from this card, or stop it. Role audio of the playbook tells PipeWire "
        "and PulseAudio to.",
        ("{stop}",),
    ),
    Cause(
        "microphone-held",
        "sharing",
        "{name} (process {pid}) holds the microphone for itself",
        "`Device or resource busy`, PortAudio -9985; or PortAudio does not list the device at all.",
        "End it, or let it record from `shared_mic` instead of the card.",
        ("{stop}",),
    ),
    Cause(
        "ipc-namespaces-differ",
        "sharing",
        "{name} shares the microphone in another IPC namespace",
        "The second to open it gets `unable to open slave`, `Device or resource busy`: each believes "
        "to be the first.",
        "Start all containers with `--ipc host` (compose: ipc: host), and with the host's /etc/asound.conf.",
    ),
    Cause(
        "ipc-perm-missing",
        "sharing",
        "{file} shares the microphone without ipc_perm, so with its first user alone",
        "`unable to create IPC semaphore`, `unable to create IPC shm instance`: the default mode is 0600.",
        "Share as Pinna's asound.conf does, with `ipc_perm 0660` and `ipc_gid audio`; then remove the old "
        "objects and start those who share anew.",
        (
            r"sed -i -E 's/^([[:space:]]*)(ipc_key[[:space:]=].*)$/\1\2\n\1ipc_perm 0660\n\1ipc_gid "
            r"audio/' '{file}'",
            "{remove}",
        ),
    ),
    Cause(
        "stale-ipc-objects",
        "sharing",
        "what is left of an earlier sharing keeps others out",
        "`unable to create IPC semaphore` or `unable to initialize sum ring buffer`, though the "
        "configuration is right.",
        "Remove what is left, and start the programs that share the microphone anew.",
        ("{remove}",),
    ),
    Cause(
        "libasound-differs",
        "sharing",
        "the container's libasound {inside} and the host's {outside} cannot share memory",
        "`unable to create IPC shm instance` (Invalid argument) in the container.",
        "Build the container's image from the host's Debian release; never mount the host's library into it.",
    ),
    Cause(
        "rate-unsupported",
        "sharing",
        "the microphone does not run at {wanted} Hz",
        "`Invalid argument`, PortAudio -9997 on `hw:`.",
        "On the controller, set audio_mic_rate to one of: {offered}. Not 8000: wake words need 16 kHz.",
        (
            "sed -i -E 's/^(defaults\\.pinna\\.mic_rate) .*/\\1 {best}/' /etc/alsa/conf.d/40-pinna.conf",
            "{remove}",
        ),
    ),
    Cause(
        "channels-unsupported",
        "sharing",
        "the microphone does not have {wanted} channels",
        "`Channels count non available`, PortAudio -9998 on `hw:`. Some microphones are stereo only.",
        "On the controller, set audio_mic_channels to one of: {offered}.",
        (
            "sed -i -E 's/^(defaults\\.pinna\\.mic_channels) .*/\\1 {best}/' /etc/alsa/conf.d/40-pinna.conf",
            "{remove}",
        ),
    ),
    Cause(
        "microphone-stalled",
        "sharing",
        "the microphone delivers no sound",
        "`Input/output error` after a second of waiting, or programs that wait for ever.",
        "Plug it out and in. If it happens again: its cable, its power, its hub.",
        (
            "echo 0 >/sys/bus/usb/devices/{port}/authorized",
            "echo 1 >/sys/bus/usb/devices/{port}/authorized",
        ),
    ),
    Cause(
        "microphone-does-not-open",
        "sharing",
        "the microphone cannot be opened, for a reason the catalogue does not know",
        "Whatever alsa-lib says, which the doctor shows.",
        "Those words, and `pinna doctor --save FILE`, are what a person who helps will want to see.",
    ),
    Cause(
        "microphone-muted",
        "sound",
        "the mixer holds the microphone back: {control}",
        "Digital silence: programs record zeros, without an error.",
        "Switch it on and turn it up; `alsactl store` keeps it.",
        ("amixer -q -c {card} sset '{control}' 80% cap", "alsactl store"),
    ),
    Cause(
        "digital-silence",
        "sound",
        "the microphone delivers zeros",
        "No error, no sound. The mixer is not the reason.",
        "A mute switch on the device? A wrong card? Plug it out and in.",
    ),
    Cause(
        "foreign-libasound",
        "portaudio",
        "a libasound that is not this system's own is loaded: {file}",
        "Plugins are missing, PortAudio lists nothing or crashes. Its name never shows it.",
        "Use the image's own library: remove the mount of the host's, LD_LIBRARY_PATH and LD_PRELOAD.",
    ),
    Cause(
        "portaudio-missing",
        "portaudio",
        "PortAudio is not installed",
        "`OSError: PortAudio library not found`.",
        "Install it.",
        ("apt-get update", "apt-get install -y libportaudio2"),
    ),
    Cause(
        "portaudio-crashes",
        "portaudio",
        "PortAudio ends the process that starts it ({signal})",
        "Python dies without an exception.",
        "Its last words, which the doctor shows, name what it stumbled over; most often alsa.conf or a "
        "mounted library.",
    ),
    Cause(
        "portaudio-sees-nothing",
        "portaudio",
        "ALSA records, but PortAudio lists no device that does",
        "PyAudio: 0 devices, `Invalid input device` (-9996). PortAudio leaves out what it cannot open "
        "when it starts: what others hold at that moment.",
        "Let the holder use shared_mic, and start the program that sees nothing anew.",
    ),
    Cause(
        "portaudio-not-initialized",
        "portaudio",
        "the program uses PortAudio after it has ended it",
        "`OSError: [Errno -10000] PortAudio not initialized` from any call.",
        "The program's own error: something calls PyAudio's terminate() before the last use. A "
        "machine does not show it.",
    ),
    Cause(
        "pyaudio-of-another-python",
        "portaudio",
        "PyAudio is installed for another Python than {python}",
        "`ImportError: cannot import name _portaudio`: apt's package copied into a venv.",
        "In the venv: pip install --force-reinstall pyaudio (it needs portaudio19-dev), or make it with "
        "--system-site-packages.",
    ),
    Cause(
        "agent-stopped",
        "agent",
        "the agent does not run",
        "`systemctl is-active pinna-agent` says inactive.",
        "Start it; `enable` starts it at boot as well.",
        ("systemctl enable --now pinna-agent",),
    ),
    Cause(
        "agent-configuration",
        "agent",
        "the agent's configuration is wrong",
        "The service ends with code 3 again and again.",
        f"`pinna config check` names the key. Mend it in the inventory, then on the controller: "
        f"{SITE} --tags agent",
    ),
    Cause(
        "agent-fails",
        "agent",
        "the agent ends again and again",
        "systemd restarts it; `journalctl -u pinna-agent` says why.",
        "Its own words, which the doctor shows, say what to do.",
    ),
    Cause(
        "agent-silent",
        "agent",
        "the agent runs, but its /health does not answer",
        "`pinna top` finds nobody.",
        "It hangs, or listens elsewhere: restart it.",
        ("systemctl restart pinna-agent",),
    ),
    Cause(
        "agent-unwell",
        "agent",
        "the agent says that its part `{part}` fails",
        "/health says so, with the cause and the cure.",
        "{hint}",
    ),
    Cause(
        "hub-name-unknown",
        "hub",
        "nobody knows the hub's name {host}",
        "`Name or service not known`.",
        "Is the name right (pinna_hub_url)? A name in .local needs libnss-mdns here and the hub in "
        "the same network.",
    ),
    Cause(
        "hub-not-running",
        "hub",
        "nothing listens at {host}:{port}",
        "`Connection refused`.",
        "Start the hub there, or set pinna_hub_url to where it is.",
    ),
    Cause(
        "hub-unreachable",
        "hub",
        "{host}:{port} cannot be reached",
        "`No route to host`, `Network is unreachable`, or no answer at all.",
        "Is this machine on the network, the hub switched on, a firewall between? `ip route get "
        "{host}` tells the way.",
    ),
    Cause(
        "hub-certificate",
        "hub",
        "the hub's certificate is not trusted",
        "`CERTIFICATE_VERIFY_FAILED`.",
        "Is the clock right (`timedatectl`)? A certificate of your own goes to "
        "/usr/local/share/ca-certificates.",
        ("update-ca-certificates",),
    ),
    Cause(
        "hub-refuses",
        "hub",
        "the hub answers, and refuses the agent",
        "/health: the token is rejected.",
        f"Set pinna_hub_token as the hub has it, then on the controller: {SITE} --tags agent",
    ),
    Cause(
        "hub-no-session",
        "hub",
        "the hub answers, but no session comes about",
        "/health: `connected` is false.",
        "UDP between the two must pass: `pinna top`, and the words that the doctor shows, tell how far it "
        "comes.",
    ),
)
CAUSES: Final = {cause.id: cause for cause in _ALL}
