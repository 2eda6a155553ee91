"""The holder of the state, its followers, and what is kept."""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path

import pytest
from tests.support.clock import ManualClock

from pinna.config import Config, SessionConfig
from pinna.errors import StorageError
from pinna.flow.fanout import Subscription
from pinna.frame import SILENCE, Frame
from pinna.session import kept
from pinna.session.gate import Gate
from pinna.session.overheard import Overheard
from pinna.session.sessions import Sessions

CONFIG = SessionConfig(mode="request", quiet_seconds=10, max_seconds=60)


class Bench:
    """Sessions with a gate, and a clock of the test's own; `put` is the microphone."""

    def __init__(self, config: SessionConfig = CONFIG, *, muted: bool = False) -> None:
        self.clock = ManualClock()
        self.spoke_at = 0.0
        self.sessions = Sessions(config, muted=muted, hub_spoke_at=lambda: self.spoke_at, clock=self.clock)
        self.out = Subscription("link", 1000)
        self.gate = Gate(self.out, config.pre_roll_ms, self.clock)
        self.sessions.follow(self.gate.follow)
        self.number = 0

    def put(self, frames: int) -> None:
        for _ in range(frames):
            self.clock.advance(0.02)
            self.number += 1
            self.gate.put(Frame(SILENCE, self.number, self.clock.now))

    def got(self) -> list[Frame]:
        async def read() -> list[Frame]:
            return [await self.out.get() for _ in range(len(self.out))]

        return asyncio.run(read())


def test_always_is_open_from_the_start_and_passes_every_frame_as_it_is() -> None:
    bench = Bench(SessionConfig())
    bench.put(5)
    assert [(frame.sequence, frame.held) for frame in bench.got()] == [(n, False) for n in range(1, 6)]
    assert not bench.sessions.close("hub")
    bench.clock.advance(100_000)
    bench.sessions.check()
    bench.put(1)
    assert len(bench.out) == 1


def test_shut_it_passes_nothing_and_opened_the_pre_roll_first() -> None:
    bench = Bench()
    bench.put(100)
    assert len(bench.out) == 0
    assert bench.sessions.open("test")
    bench.put(2)
    frames = bench.got()
    assert [frame.sequence for frame in frames] == list(range(86, 103))
    assert [frame.held for frame in frames] == [True] * 15 + [False] * 2
    assert (bench.gate.passed, bench.gate.held) == (17, 85)


def test_shutting_takes_back_what_waits_and_nothing_is_sent_twice() -> None:
    bench = Bench()
    bench.sessions.open("test")
    bench.put(5)
    bench.sessions.close("test")
    assert len(bench.out) == 0
    bench.put(3)
    bench.sessions.open("test")
    assert [frame.sequence for frame in bench.got()] == [6, 7, 8]


def test_a_muted_device_remembers_nothing() -> None:
    bench = Bench()
    bench.put(20)
    bench.sessions.mute("test")
    bench.put(20)
    assert not bench.sessions.open("test")
    bench.sessions.unmute("test")
    bench.sessions.open("test")
    assert bench.got() == []


def test_a_pre_roll_from_before_the_microphone_was_away_is_stale() -> None:
    bench = Bench()
    bench.put(20)
    bench.clock.advance(5)
    bench.sessions.open("test")
    assert bench.got() == []


def test_a_session_ends_when_the_hub_is_quiet_and_at_its_limit() -> None:
    bench = Bench()
    bench.sessions.open("test")
    bench.clock.advance(9)
    bench.sessions.check()
    assert bench.sessions.state == "session"
    bench.spoke_at = bench.clock.now
    bench.clock.advance(9)
    bench.sessions.check()
    assert bench.sessions.state == "session"
    bench.clock.advance(2)
    bench.sessions.check()
    assert (bench.sessions.state, bench.sessions.by) == ("idle", "quiet hub")
    bench.sessions.open("test")
    for _ in range(7):
        bench.clock.advance(9)
        bench.spoke_at = bench.clock.now
        bench.sessions.check()
    assert (bench.sessions.state, bench.sessions.by) == ("idle", "time limit")
    assert bench.sessions.opened == {"test": 2}


def test_the_hub_is_overheard_when_it_can_be_heard() -> None:
    class Speaker:
        queued_ms = 40

        def play(self, samples: object) -> bool:
            return False

    clock = ManualClock()
    overheard = Overheard(Speaker(), clock)
    assert overheard.play(SILENCE) is False
    assert overheard.spoke_at < 0
    loud = SILENCE.copy()
    loud[7] = -32768
    overheard.play(loud)
    assert overheard.spoke_at == clock.now
    assert overheard.queued_ms == 40


class TestKept:
    def test_a_mute_survives_and_its_end_does_too(self, tmp_path: Path) -> None:
        where = tmp_path / "a" / "b"
        for muted in (True, False):
            bench = Bench(muted=kept.look(where)[0])
            keeper = kept.Keeper(where, gated=True, trouble=pytest.fail)
            bench.sessions.follow(keeper.follow)
            (bench.sessions.mute if muted else bench.sessions.unmute)("test")
            keeper.close()
            assert kept.look(where) == (muted, "")

    def test_looking_changes_nothing(self, tmp_path: Path) -> None:
        assert kept.look(tmp_path / "none") == (False, "")
        assert list(tmp_path.iterdir()) == []

    def test_what_cannot_be_looked_at_counts_as_muted(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        muted, trouble = kept.look(tmp_path / "file" / "state")
        assert muted
        assert "may hold a mute" in trouble

    def test_a_mute_that_cannot_be_kept_is_told_and_holds_all_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        told: list[str] = []
        bench = Bench()
        keeper = kept.Keeper(tmp_path / "file" / "state", gated=True, trouble=told.append)
        bench.sessions.follow(keeper.follow)
        bench.sessions.mute("test")
        keeper.close()
        assert "muted only until a restart" in told[0]
        assert bench.sessions.state == "muted"

    def test_sessions_are_logged_with_reason_length_and_errors(self, tmp_path: Path) -> None:
        bench = Bench()
        keeper = kept.Keeper(tmp_path, gated=True, trouble=pytest.fail)
        bench.sessions.follow(keeper.follow)
        keeper.error("before any session")
        bench.sessions.open("wake word")
        for _ in range(2):
            keeper.error("the service hiccuped")
        bench.sessions.close("hub")
        bench.sessions.open("request")
        keeper.close()  # while it lasts
        (first, second), _ = kept.read_log(tmp_path, 20)
        assert (first["opened_by"], first["ended_by"], first["errors"]) == (
            "wake word",
            "hub",
            ["the service hiccuped"],
        )
        assert first["seconds"] >= 0
        assert second["ended_by"] == "stop of the agent"
        assert kept.read_log(tmp_path, 1) == ([second], 0)
        assert stat.S_IMODE((tmp_path / kept.LOG).stat().st_mode) & stat.S_IWOTH == 0

    def test_always_logs_no_sessions(self, tmp_path: Path) -> None:
        bench = Bench(SessionConfig())
        keeper = kept.Keeper(tmp_path, gated=False, trouble=pytest.fail)
        bench.sessions.follow(keeper.follow)
        keeper.close()
        assert kept.read_log(tmp_path, 20) == ([], 0)
        assert list(tmp_path.iterdir()) == []

    def test_torn_lines_are_left_out_and_a_full_log_makes_room(self, tmp_path: Path) -> None:
        log = tmp_path / kept.LOG
        log.write_text('{"began": "x"\n[]\n"\xff"\n' + " " * kept.LOG_BYTES + "\n", "latin-1")
        bench = Bench()
        keeper = kept.Keeper(tmp_path, gated=True, trouble=pytest.fail)
        bench.sessions.follow(keeper.follow)
        for _ in range(2):
            bench.sessions.open("request")
            bench.sessions.close("request")
        keeper.close()
        entries, torn = kept.read_log(tmp_path, 20)
        assert (len(entries), torn) == (2, 4)
        assert log.stat().st_size < 1000

    def test_a_log_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        (tmp_path / kept.LOG).mkdir()
        with pytest.raises(StorageError, match="sudo pinna sessions"):
            kept.read_log(tmp_path, 20)

    def test_the_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STATE_DIRECTORY", raising=False)
        monkeypatch.setenv("XDG_STATE_HOME", "/state")
        assert kept.folder(Config(device_id="kitchen")) == Path("/state/pinna/kitchen")
        monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/of-the-unit")
        assert kept.folder(Config(device_id="kitchen")) == Path("/var/lib/of-the-unit")
        given = Config(session=SessionConfig(state_dir="/var/lib/pinna-agent"))
        assert kept.folder(given) == Path("/var/lib/pinna-agent")


def test_an_opening_anew_is_not_the_one_that_is() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.sessions.open("test")
        waiting = asyncio.create_task(bench.gate.opens_anew(30))
        await asyncio.sleep(0)
        bench.sessions.close("test")
        await asyncio.sleep(0)
        assert not waiting.done()
        bench.sessions.open("test")
        began = time.monotonic()
        await waiting
        assert time.monotonic() - began < 15
        await bench.gate.opens_anew(0.01)  # and no longer than that

    asyncio.run(scenario())
