"""Between card and disk: the queue that never waits, and what arecord says, from a program that says it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from pinna.recorder import capture
from pinna.recorder.backlog import Backlog
from pinna.recorder.capture import SoundCard
from pinna.recorder.events import Chunk, Down, Event, Lost
from pinna.recorder.formats import Form

FORM = Form("wav", 48_000, 1, 16)


def chunk(samples: int) -> Chunk:
    return Chunk(bytes(2 * samples), 0.0)


def test_what_does_not_fit_is_counted_where_it_is_missing():
    backlog = Backlog(2000, FORM)
    for samples in (600, 300, 150, 200):  # 100 fit after the first two
        backlog.put(chunk(samples))
    first, second = backlog.get(1), backlog.get(1)
    backlog.put(chunk(7))
    lost, last = backlog.get(1), backlog.get(1)
    assert [event.size for event in (first, second, last) if isinstance(event, Chunk)] == [1200, 600, 14]
    assert lost == Lost("overload", 350, "the disk was too slow", estimated=False)
    with pytest.raises(queue.Empty):
        backlog.get(0.001)


def test_a_loss_at_the_end_is_told_before_the_end():
    backlog = Backlog(10, FORM)
    backlog.put(chunk(100))
    backlog.end()
    assert backlog.get(1) == Lost("overload", 100, "the disk was too slow", estimated=False)
    assert backlog.get(1) is None


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[Event]]]:
    """Starts a source on an `arecord` that is a script of the test's: real pipes, words of real ones."""
    running: list[SoundCard] = []

    def start(script: str) -> list[Event]:
        program = tmp_path / "arecord"
        program.write_text(f'#!/bin/sh\ncase "$1" in -l|-L) exit 0;; esac\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        events: list[Event] = []
        running.append(SoundCard("mic", "some_pcm", FORM, events.append))
        running[0].start()
        return events

    yield start
    for source in running:
        source.stop()
        source.join(10)
        assert not source.is_alive()


def down(events: list[Event]) -> Down:
    return eventually(lambda: next((event for event in events if isinstance(event, Down)), None))


def test_another_rate_than_asked_for_is_refused(card: Callable[[str], list[Event]]):
    """Arecord itself warns, and goes on at the wrong speed."""
    events = card(
        "echo 'Warning: rate is not accurate (requested = 48000Hz, got = 44100Hz)' >&2; exec cat /dev/zero"
    )
    assert "some_pcm records at 44100 Hz, not at 48000" in down(events).detail


def test_a_card_that_only_falls_silent_is_given_up(
    card: Callable[[str], list[Event]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(capture, "SILENT_SECONDS", 0.3)
    events = card("head -c 9600 /dev/zero; exec sleep 60")
    assert down(events).detail == "no sound from some_pcm for 0.3 s"


def test_half_a_sample_at_the_end_of_a_read_waits_for_its_other_half(card: Callable[[str], list[Event]]):
    events = card("head -c 4801 /dev/zero; sleep 0.2; head -c 4799 /dev/zero; exit 1")
    down(events)
    sizes = [event.size for event in events if isinstance(event, Chunk)]
    assert sum(sizes) == 9600
    assert all(size % 2 == 0 for size in sizes)


def test_a_program_that_dies_without_a_word(card: Callable[[str], list[Event]]):
    assert down(card("exit 7")).detail == "arecord ended with code 7 and said nothing"


def test_told_to_stop_everything_captured_is_delivered(tmp_path: Path, card: Callable[[str], list[Event]]):
    events = card(
        "trap 'head -c 2000 /dev/zero; exit 1' TERM; head -c 1000 /dev/zero; while :; do sleep 0.01; done"
    )
    eventually(lambda: events)
    source = next(thread for thread in _threads() if isinstance(thread, SoundCard))
    source.stop()
    source.join(10)
    assert sum(event.size for event in events if isinstance(event, Chunk)) == 3000


def _threads() -> list[object]:
    import threading  # noqa: PLC0415

    return list(threading.enumerate())
