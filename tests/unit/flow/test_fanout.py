from __future__ import annotations

import asyncio

from pinna.flow.fanout import Fanout, Subscription
from pinna.frame import SILENCE, Frame


def frame(sequence: int) -> Frame:
    return Frame(SILENCE, sequence, 0.0)


def test_a_slow_subscriber_loses_the_oldest_and_holds_up_nobody() -> None:
    async def body() -> None:
        fanout = Fanout()
        slow, quick = fanout.subscribe("slow", 60), fanout.subscribe("quick", 2000)
        for number in range(10):
            fanout.publish(frame(number))
        assert [(await slow.get()).sequence for _ in range(3)] == [7, 8, 9]
        assert (slow.dropped, quick.dropped) == (7, 0)
        assert [(await quick.get()).sequence for _ in range(10)] == list(range(10))

    asyncio.run(body())


def test_a_waiting_reader_is_woken() -> None:
    async def body() -> None:
        subscription = Subscription("one", 100)
        reader = asyncio.create_task(subscription.__anext__())
        await asyncio.sleep(0)
        subscription.put(frame(4))
        assert (await reader).sequence == 4

    asyncio.run(body())


def test_closing_ends_the_iteration_after_what_was_queued() -> None:
    async def body() -> None:
        fanout = Fanout()
        subscription = fanout.subscribe("one", 100)
        fanout.publish(frame(1))
        fanout.unsubscribe(subscription)
        fanout.publish(frame(2))
        assert [each.sequence async for each in subscription] == [1]
        assert fanout.subscriptions == ()

    asyncio.run(body())


def test_clearing_forgets_what_is_stale() -> None:
    subscription = Subscription("one", 100)
    subscription.put(frame(1))
    subscription.clear()
    assert len(subscription) == 0
    assert subscription.dropped == 0
