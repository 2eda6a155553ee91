"""A lock-free ring of equal blocks between one writing and one reading thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from pinna.frame import FRAME_SAMPLES, Samples


class Ring:
    """`capacity` slots of `rows` blocks each, preallocated: shape (capacity, rows, block), int16.

    Beside its blocks a slot holds a note: any immutable value, such as when and where the blocks were taken.

    One thread calls `put`, one other calls `get`. Each owns one of the two counters and only reads the
    other, so neither ever waits: CPython's stores of an int to an attribute are atomic. A full ring refuses
    the new slot (`put` returns False): the writer may be a PortAudio callback, which must not wait, and the
    reader may be reading the oldest slot.
    """

    def __init__(self, capacity: int, rows: int = 1, block: int = FRAME_SAMPLES) -> None:
        self._slots = np.zeros((capacity, rows, block), np.int16)
        self._notes: list[Any] = [None] * capacity
        self._capacity = capacity
        self._written = 0
        self._read = 0

    def __len__(self) -> int:
        return self._written - self._read

    def put(self, *blocks: Samples, note: Any = None) -> bool:
        """Copy one block per row into the next slot; False when there is none."""
        written = self._written
        if written - self._read >= self._capacity:
            return False
        slot = written % self._capacity
        for row, block in enumerate(blocks):
            self._slots[slot, row] = block
        self._notes[slot] = note
        self._written = written + 1
        return True

    def get(self) -> tuple[Samples, Any] | None:
        """A copy of the oldest slot, shape (rows, block), and its note; None when the ring is empty."""
        read = self._read
        if read == self._written:
            return None
        slot = read % self._capacity
        blocks = self._slots[slot].copy()
        note = self._notes[slot]
        self._read = read + 1
        return blocks, note

    def get_into(self, out: Samples) -> bool:
        """Copy the first row of the oldest slot into `out`; False (and `out` untouched) when empty."""
        read = self._read
        if read == self._written:
            return False
        out[:] = self._slots[read % self._capacity, 0]
        self._read = read + 1
        return True

    def clear(self) -> None:
        """Forget what is queued. Reader's side only."""
        self._read = self._written
