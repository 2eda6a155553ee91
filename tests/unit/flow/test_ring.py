from __future__ import annotations

import threading
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pinna.flow.ring import Ring
from pinna.frame import Samples


def block(value: int, size: int = 4) -> Samples:
    return np.full(size, value, np.int16)


def test_what_goes_in_comes_out_in_order_with_its_note() -> None:
    ring = Ring(3, rows=2, block=4)
    assert ring.put(block(1), block(2), note="first")
    assert ring.put(block(3), block(4), note="second")
    taken = ring.get()
    assert taken is not None
    assert taken[0].tolist() == [[1] * 4, [2] * 4]
    assert taken[1] == "first"
    assert len(ring) == 1


def test_a_full_ring_refuses_and_keeps_what_it_has() -> None:
    ring = Ring(2, block=4)
    assert [ring.put(block(n)) for n in range(3)] == [True, True, False]
    out = block(9)
    assert ring.get_into(out)
    assert out.tolist() == [0] * 4
    assert ring.put(block(5))


def test_an_empty_ring_leaves_the_block_alone() -> None:
    ring = Ring(2, block=4)
    out = block(9)
    assert not ring.get_into(out)
    assert out.tolist() == [9] * 4
    assert ring.get() is None


@given(st.lists(st.booleans(), max_size=200))
def test_any_interleaving_is_a_bounded_queue(writes: list[bool]) -> None:
    ring, queue, number = Ring(5, block=1), [], 0
    for write in writes:
        if write:
            number += 1
            assert ring.put(block(number, 1)) == (len(queue) < 5)
            if len(queue) < 5:
                queue.append(number)
        else:
            taken = ring.get()
            assert (None if taken is None else int(taken[0][0, 0])) == (queue.pop(0) if queue else None)
        assert len(ring) == len(queue)


def test_two_threads_lose_and_repeat_nothing() -> None:
    ring, count, seen = Ring(8, block=64), 20_000, []

    def write() -> None:
        for number in range(count):
            while not ring.put(block(number % 30_000, 64), note=number):
                time.sleep(0)  # let the other have the interpreter now, not after its 5 ms

    writer = threading.Thread(target=write)
    writer.start()
    while len(seen) < count:
        if (taken := ring.get()) is not None:
            assert (taken[0] == taken[1] % 30_000).all()
            seen.append(taken[1])
        else:
            time.sleep(0)
    writer.join()
    assert seen == list(range(count))
