from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clock import ManualClock

from pinna.health import Component, Health, SystemdNotifier, Watchdog


class TestComponent:
    def test_since_is_when_the_state_began(self) -> None:
        clock = ManualClock(0)
        component = Component("link", clock)
        assert (component.state, component.since) == ("starting", 0)
        clock.advance(5)
        component.ok()
        clock.advance(5)
        component.ok()
        assert (component.state, component.since, component.up_seconds) == ("ok", 5, 5)

    def test_a_new_reason_in_the_same_state_does_not_move_since(self) -> None:
        clock = ManualClock(0)
        component = Component("audio", clock)
        component.failed("unplugged", "Plug it in")
        clock.advance(5)
        component.failed("busy", "Free it")
        assert (component.since, component.reason, component.hint) == (0, "busy", "Free it")

    def test_reason_and_hint_go_with_the_trouble(self) -> None:
        component = Component("audio")
        component.failed("unplugged", "Plug it in")
        component.ok()
        assert (component.reason, component.hint) == ("", "")
        assert component.as_dict().keys() == {"state", "for_seconds"}

    def test_up_time_spans_ok_and_degraded_and_ends_with_failure(self) -> None:
        clock = ManualClock()
        component = Component("audio", clock)
        component.ok()
        clock.advance(10)
        component.degraded("no loudspeaker")
        clock.advance(10)
        assert component.up_seconds == 20
        component.failed("unplugged")
        clock.advance(10)
        assert component.up_seconds == 0

    def test_listeners_hear_changes_only(self) -> None:
        component = Component("audio")
        heard: list[tuple[str, str]] = []
        component.on_change.append(lambda changed: heard.append((changed.state, changed.reason)))
        component.starting()
        component.failed("a")
        component.failed("a")
        component.failed("b")
        component.ok()
        component.stopped()
        assert heard == [("failed", "a"), ("failed", "b"), ("ok", ""), ("stopped", "")]


class TestHealth:
    def test_is_as_bad_as_the_worst(self) -> None:
        health = Health()
        assert health.state == "starting"
        audio, link = health.component("audio"), health.component("link")
        assert health.component("audio") is audio
        audio.ok()
        assert health.state == "starting"
        link.ok()
        assert health.state == "ok"
        audio.degraded("no loudspeaker")
        assert health.state == "degraded"
        link.failed("nobody answers", "Start the hub")
        assert health.state == "failed"
        link.stopped()
        assert health.state == "degraded"
        audio.stopped()
        assert health.state == "stopped"

    def test_says_everything_in_json_and_the_troubles_in_a_line(self) -> None:
        clock = ManualClock()
        health = Health(clock)
        health.component("audio").ok()
        health.component("link").failed("nobody answers", "Start the hub")
        clock.advance(1.26)
        assert health.as_dict() == {
            "audio": {"state": "ok", "for_seconds": 1.3},
            "link": {
                "state": "failed",
                "for_seconds": 1.3,
                "reason": "nobody answers",
                "hint": "Start the hub",
            },
        }
        assert health.summary() == "failed: link failed (nobody answers)"
        health.component("link").ok()
        assert health.summary() == "ok"

    def test_one_listener_hears_all_components(self) -> None:
        health = Health()
        heard: list[str] = []
        health.on_change.append(lambda component: heard.append(component.name))
        health.component("audio").ok()
        health.component("link").ok()
        assert heard == ["audio", "link"]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The far end of the notify socket, and what it puts into NOTIFY_SOCKET."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@pinna-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(address.replace("@", "\0", 1))
        yield listener, address


class TestSystemd:
    def test_hears_each_assignment(self, systemd: tuple[socket.socket, str]) -> None:
        listener, address = systemd
        notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.status("failed: link failed\n(nobody\tanswers)")
        notifier.alive()
        notifier.stopping()
        assert [listener.recv(4096).decode() for _ in range(4)] == [
            "READY=1",
            "STATUS=failed: link failed (nobody answers)",
            "WATCHDOG=1",
            "STOPPING=1",
        ]

    def test_a_full_or_dead_listener_is_not_our_failure(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(tmp_path / "full"))
            notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "full")})
            for _ in range(5000):
                notifier.alive()
        notifier.alive()

    @pytest.mark.parametrize(
        "address", ["", "@", "/nowhere/at/all", "x" * 500, "vsock:2:1234", "a\0b", "\udc80"]
    )
    def test_no_address_makes_it_raise(self, address: str) -> None:
        notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.status("\udc80")

    @pytest.mark.parametrize(
        ("environ", "seconds"),
        [
            ({}, None),
            ({"WATCHDOG_USEC": "30000000"}, 30.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "-1"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
        ],
    )
    def test_how_long_the_watchdog_waits(self, environ: dict[str, str], seconds: float | None) -> None:
        assert SystemdNotifier(environ).watchdog_seconds == seconds


class TestWatchdog:
    def test_is_fed_while_frames_advance_and_only_then(self, systemd: tuple[socket.socket, str]) -> None:
        listener, address = systemd
        captured = iter([0, 0, 50, 100, 100, 100, 0, 50, 50, 20])  # less: the device has been reopened
        watchdog = Watchdog(lambda: next(captured), SystemdNotifier({"NOTIFY_SOCKET": address}))
        fed = [watchdog.check() for _ in range(9)]
        assert fed == [False, True, True, False, False, False, True, False, True]
        assert [listener.recv(64) for _ in range(4)] == [b"WATCHDOG=1"] * 4
        with pytest.raises(BlockingIOError):
            listener.recv(64)

    def test_checks_often_enough_that_one_look_in_vain_costs_little(self) -> None:
        clock = ManualClock()
        frames = 0

        async def sleep(seconds: float) -> None:
            nonlocal frames
            frames += 1
            await clock.sleep(seconds)
            if len(clock.slept) == 3:
                raise asyncio.CancelledError

        watchdog = Watchdog(lambda: frames, SystemdNotifier({"WATCHDOG_USEC": "30000000"}), sleep)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(watchdog.run())
        assert clock.slept == [2.5, 2.5, 2.5]

    def test_has_nothing_to_do_when_systemd_does_not_watch(self) -> None:
        asyncio.run(Watchdog(lambda: 0, SystemdNotifier({})).run())
