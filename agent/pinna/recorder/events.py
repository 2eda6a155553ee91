"""What a source delivers, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pinna.recorder.formats import Form


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole samples as captured; the last at `at` (monotonic seconds) or a little before."""

    data: bytes
    at: float

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def granule(self) -> int:
        return 0

    def samples(self, form: Form) -> int:
        return len(self.data) // form.raw_bytes

    def split(self, room: int, form: Form) -> tuple[bytes, int, Chunk]:
        """Bytes and number of the first `room` samples at most, and the rest."""
        place = min(room * form.raw_bytes, len(self.data))
        return self.data[:place], place // form.raw_bytes, Chunk(self.data[place:], self.at)


@dataclass(frozen=True, slots=True)
class Unit:
    """A frame or page of a stream. `granule`: where it goes on from, in an Ogg stream."""

    data: bytes
    samples: int
    granule: int = 0


@dataclass(frozen=True, slots=True)
class Units:
    """Whole frames or pages, complete at `at` (monotonic seconds)."""

    units: tuple[Unit, ...]
    at: float

    @property
    def size(self) -> int:
        return sum(len(unit.data) for unit in self.units)

    @property
    def granule(self) -> int:
        return self.units[0].granule if self.units else 0

    def samples(self, _form: Form) -> int:
        return sum(unit.samples for unit in self.units)

    def split(self, room: int, _form: Form) -> tuple[bytes, int, Units]:
        """Units until `room` samples are reached: what sounds across a cut belongs to the file before it."""
        samples, count = 0, 0
        for unit in self.units:
            if samples >= room and unit.samples:
                break
            samples, count = samples + unit.samples, count + 1
        data = b"".join(unit.data for unit in self.units[:count])
        return data, samples, Units(self.units[count:], self.at)


@dataclass(frozen=True, slots=True)
class Begins:
    """What follows is of this form; each file begins with `head`."""

    form: Form
    head: bytes


@dataclass(frozen=True, slots=True)
class Title:
    """What a stream says of itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Samples that the source dropped between what came before this and what comes after."""

    reason: str
    samples: int
    detail: str
    estimated: bool = True


@dataclass(frozen=True, slots=True)
class Down:
    """The source is gone, and is tried again."""

    reason: str
    detail: str


Sound = Chunk | Units
Event = Sound | Begins | Title | Lost | Down
Deliver = Callable[[Event], None]
