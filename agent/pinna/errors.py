"""The exception tree. Every error names the thing, the cause, and the cure.

    PinnaError                      1   anything of ours
    ├── UsageError                  2   the command line itself (argparse uses 2 as well)
    ├── ConfigError                 3   a key, a value or a file of the configuration
    ├── PortAudioMissingError       4   the PortAudio library cannot be loaded or started
    ├── DeviceError                 5   a sound device: missing, busy, lost, of the wrong kind
    ├── EchoCancellerError          6   the configured echo canceller cannot start
    ├── HubUnreachableError         7   nobody answers, or the connection died
    ├── HubRefusedError             8   the hub said no: credentials, address
    ├── HubAnswerError              9   something answered that is not a hub
    ├── PortInUseError             10   an address to listen on is taken
    ├── ProofError                 11   a demonstration or probe did not prove what it set out to
    ├── SnapshotError              12   what the doctor was to judge is no snapshot
    ├── BrokenError                13   the doctor found a broken link
    ├── LookError                  14   the doctor could not look: no answer from a host or container
    ├── StorageError               15   the archive of recordings cannot be read or written
    └── PinError                   16   a GPIO pin cannot be had

`permanent` errors are not retried by the supervisor: trying again without a human cannot help.
The number is the exit code of the command that ends with the error.
"""

from __future__ import annotations

from typing import ClassVar


class PinnaError(Exception):
    """`cause` says in one line what went wrong with which thing; `hint` what to do about it."""

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "an error of ours"

    def __init__(self, cause: str, *, hint: str, permanent: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint
        self.permanent = permanent

    def __str__(self) -> str:
        return f"{self.cause}. {self.hint}"


class UsageError(PinnaError):
    exit_code = 2
    meaning = "the command line is wrong"


class ConfigError(PinnaError):
    exit_code = 3
    meaning = "the configuration is wrong"


class PortAudioMissingError(PinnaError):
    exit_code = 4
    meaning = "PortAudio is missing or does not start"


class DeviceError(PinnaError):
    exit_code = 5
    meaning = "a sound device is missing, busy or unsuitable"


class EchoCancellerError(PinnaError):
    exit_code = 6
    meaning = "the echo canceller cannot start"


class HubUnreachableError(PinnaError):
    exit_code = 7
    meaning = "the hub cannot be reached"


class HubRefusedError(PinnaError):
    exit_code = 8
    meaning = "the hub refuses us"


class HubAnswerError(PinnaError):
    exit_code = 9
    meaning = "the hub's answer makes no sense"


class PortInUseError(PinnaError):
    exit_code = 10
    meaning = "an address to listen on cannot be had"


class ProofError(PinnaError):
    exit_code = 11
    meaning = "what was to be proven was not"


class SnapshotError(PinnaError):
    exit_code = 12
    meaning = "what was to be judged is no snapshot"


class BrokenError(PinnaError):
    exit_code = 13
    meaning = "the doctor found something broken"


class LookError(PinnaError):
    exit_code = 14
    meaning = "the doctor could not look"


class StorageError(PinnaError):
    exit_code = 15
    meaning = "the archive cannot be read or written"


class PinError(PinnaError):
    exit_code = 16
    meaning = "a GPIO pin cannot be had"


EXIT_CODES: dict[int, str] = {
    0: "all is well",
    **{
        kind.exit_code: kind.meaning
        for kind in (
            PinnaError,
            UsageError,
            ConfigError,
            PortAudioMissingError,
            DeviceError,
            EchoCancellerError,
            HubUnreachableError,
            HubRefusedError,
            HubAnswerError,
            PortInUseError,
            ProofError,
            SnapshotError,
            BrokenError,
            LookError,
            StorageError,
            PinError,
        )
    },
}
