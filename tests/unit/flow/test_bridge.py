from __future__ import annotations

import asyncio
import threading

from pinna.flow.bridge import Bridge


async def _in_order() -> None:
    got: list[int] = []
    done = asyncio.Event()

    def deliver(item: int) -> None:
        got.append(item)
        if item == 999:
            done.set()

    bridge = Bridge(asyncio.get_running_loop(), deliver, capacity=2000)
    thread = threading.Thread(target=lambda: [bridge.post(n) for n in range(1000)])
    thread.start()
    await done.wait()
    thread.join()
    assert got == list(range(1000))
    assert bridge.dropped == 0


def test_items_of_a_thread_arrive_in_order() -> None:
    asyncio.run(_in_order())


def test_a_late_loop_loses_the_oldest_and_counts_them() -> None:
    async def body() -> None:
        got: list[int] = []
        last = asyncio.Event()

        def deliver(item: int) -> None:
            got.append(item)
            if item == 24:
                last.set()

        bridge = Bridge(asyncio.get_running_loop(), deliver, capacity=10)
        thread = threading.Thread(target=lambda: [bridge.post(n) for n in range(25)])
        thread.start()
        thread.join()  # the loop is held up by this very line
        assert got == []
        await last.wait()
        assert got == list(range(15, 25))
        assert bridge.dropped == 15

    asyncio.run(body())


def test_after_the_loop_has_closed_nothing_happens() -> None:
    loop = asyncio.new_event_loop()
    bridge = Bridge(loop, lambda item: None, capacity=2)
    loop.close()
    bridge.post(1)
    bridge.post(2)
