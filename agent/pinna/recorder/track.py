r"""One source on disk: samples in; files cut by the clock, and an account of every sample, out.

    capture -> backlog -> Track.take -> segment file
                                   \-> manifest

Used by the source's writing thread alone, except for `suspend` and the figures that `status` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

import structlog

from pinna.recorder import formats
from pinna.recorder.clock import Clock, boot_id, day, iso, next_cut, quality, stamp
from pinna.recorder.disk import free_name, reason_of, size_of, sync_folder
from pinna.recorder.events import Begins, Chunk, Down, Event, Lost, Sound, Title, Units
from pinna.recorder.formats import Form, SegmentFile
from pinna.recorder.manifest import NAME, Account, Line, Manifest

JUMP_SECONDS: Final = 0.5
"""A wall clock that moved by more against the monotonic one was set, not slewed (NTP steps from 0.128 s)."""

RETRY_DISK_SECONDS: Final = 5.0
SAME_CUT_SECONDS: Final = 2.0
PACED_SECONDS: Final = 1.0
"""A card's samples that come so much earlier or later than reckoned begin a new reckoning …"""

BUFFERED_SECONDS: Final = 10.0
"""… and a stream's, which servers and networks hold up and then deliver in a heap."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """`folder` is the source's own, in the archive. The form of a stream shows when it begins."""

    source: str
    folder: Path
    form: Form
    split_minutes: int
    zone: tzinfo | None


@dataclass(slots=True)
class _Away:
    """Nothing is being written. What goes missing is counted, or, where nothing comes, timed from `since`."""

    reason: str
    detail: str
    counted: int = 0
    since: float | None = None  # monotonic
    unsure: bool = False  # how long it was is not known: it is told, though it seem to be no time at all


@dataclass(slots=True)
class _Open:
    file: SegmentFile
    path: Path
    manifest: Manifest
    form: Form
    samples: int = 0


class Track:
    """`closed(path, manifest)` is called for each finished file."""

    def __init__(self, plan: Plan, clock: Clock, closed: Callable[[Path, Manifest], None]) -> None:
        self._plan = plan
        self._clock = clock
        self._closed = closed
        self._form = plan.form
        self._head = b""
        self._title = ""
        self._index = 0
        self._open: _Open | None = None
        self._away: _Away | None = None
        self._cut = 0.0
        self._at = 0.0  # monotonic time of the next sample, smoothed
        self._offset = clock.wall() - clock.mono()
        self._pending: list[tuple[Manifest, Line]] = []
        self._manifest: Manifest | None = None
        self._heard_at = 0.0
        self._retry_at = 0.0
        self.suspended = ""
        """Set from outside: why nothing may be written now."""
        self.trouble = ""
        self.lost = 0
        self.recorded = 0

    def resume(self, account: Account) -> None:
        """Go on where the account of earlier runs ends; the time since is a gap. Call first."""
        if not account.segments:
            return
        last = account.segments[-1]
        end = account.end
        seconds = (end - last.first) / int(last.opened["rate"])
        how = "killed or without power" if last.closed and last.closed.get("repaired") else "stopped"
        unsure = False
        if last.opened.get("boot") == boot_id():
            since = float(last.opened["mono"]) + seconds
            if last.closed and not last.closed.get("repaired"):
                since = float(last.closed["mono"]) + (end - last.end) / int(last.opened["rate"])
        else:
            since = float(last.opened["wall"]) + seconds - self._offset
            unsure = quality().state != "synchronised"
            how += ", timed by a clock that was not synchronised" if unsure else ""
        self._index = end
        self._manifest = last.manifest
        self._away = _Away("restart", how, since=since, unsure=unsure)

    def take(self, event: Event) -> None:
        if isinstance(event, Chunk | Units):
            self._take_samples(event)
        elif isinstance(event, Begins):
            self._finish_file()
            self._form, self._head = event.form, event.head
        elif isinstance(event, Title):
            self._entitle(event.text)
        elif isinstance(event, Lost):
            self._gap(event.reason, event.samples, event.detail, estimated=event.estimated)
        elif isinstance(event, Down):
            self._go_away(event)

    def sync(self) -> None:
        if self._open is not None:
            try:
                self._open.file.sync()
            except OSError as error:
                self._disk_failed(error, 0)

    def close(self) -> None:
        """The end: the file is finished, and a gap that is still open is written down up to now."""
        self._finish_file()
        if self._away is not None and self._away.reason != "restart":
            self._account_for_away(self._clock.mono())
        self._flush_pending()

    @property
    def index(self) -> int:
        """Of the next sample."""
        return self._index

    @property
    def status(self) -> dict[str, Any]:
        """For status.json, from any thread."""
        current, away = self._open, self._away
        state = "recording" if current else (away.reason if away else "starting")
        body: dict[str, Any] = {
            "state": state,
            "file": f"{current.path.parent.name}/{current.path.name}" if current else None,
            "file_samples": current.samples if current else 0,
            "recorded_samples": self.recorded,
            "lost_samples": self.lost,
            "rate": self._form.rate,
            "format": self._form.format,
        }
        if self.trouble and not current:
            body["trouble"] = self.trouble
        return body

    # Samples

    def _take_samples(self, sound: Sound) -> None:
        count = sound.samples(self._form)
        begin = sound.at - count / self._form.rate
        slack = PACED_SECONDS if isinstance(sound, Chunk) else BUFFERED_SECONDS
        self._look_at_clock()
        self._heard_at = sound.at
        if self.suspended or self._clock.mono() < self._retry_at:
            self._count_unwritten(count, begin)
            return
        if self._away is not None:
            self._account_for_away(begin)
            self._at = begin
        elif self._open is None or abs(begin - self._at) > slack:
            self._at = begin
        else:
            self._at += (begin - self._at) * 0.05  # arrival jitters by a period; the cut should not
        self._write(sound)

    def _count_unwritten(self, count: int, begin: float) -> None:
        self._finish_file()
        if self._away is None or self._away.since is not None:
            self._account_for_away(begin)  # of another kind: nothing came
            self._away = _Away("disk", self.suspended or self.trouble)
            self.trouble = self._away.detail
        self._away.counted += count

    def _write(self, sound: Sound) -> None:
        while sound.size:
            try:
                current, room = self._file_with_room(sound.granule)
                data, samples, rest = sound.split(room, self._form)
                current.file.write(data)
                current.samples += samples
                self._index += samples
                self.recorded += samples
                self._at += samples / self._form.rate
                sound = rest
                if samples >= room:
                    self._close_file()
            except OSError as error:
                self._disk_failed(error, sound.samples(self._form))
                return

    def _file_with_room(self, granule: int) -> tuple[_Open, int]:
        """The file that the next sample belongs to, and how many until it is to be cut."""
        for _ in range(2):
            current = self._open or self._open_file(granule)
            room = round((self._cut - self._at - self._offset) * self._form.rate)
            if room > 0:
                return current, room
            self._close_file()  # the clock was set past the cut
        return self._open_file(granule), 1

    # Files

    def _open_file(self, granule: int) -> _Open:
        plan, form = self._plan, replace(self._form, granule=granule)
        wall = self._at + self._offset
        named = self._cut if abs(wall - self._cut) < SAME_CUT_SECONDS else wall
        folder = plan.folder / day(named, plan.zone)
        if not folder.exists():
            folder.mkdir(parents=True)
            sync_folder(plan.folder)
        path = free_name(folder, f"{plan.source}_{stamp(named, plan.zone)}", form.suffix)
        known = quality()
        line: Line = {
            "kind": "open",
            "file": path.name,
            "first": self._index,
            "wall": round(wall, 6),
            "time": iso(wall),
            "mono": round(self._at, 6),
            "boot": boot_id(),
            "clock": known.state,
            "clock_error_ms": known.error_ms,
            **form.as_dict(),
        }
        if self._title:
            line["title"] = self._title
        manifest = Manifest(folder / NAME)
        self._flush_pending(strict=True)
        manifest.append(line)  # before the file: there is never one without a line
        try:
            file = formats.create(path, form, self._head)
            if form.bits:  # samples; streams are not decoded here
                from pinna.recorder.peaks import DrawnFile  # noqa: PLC0415  (NumPy)

                file = DrawnFile(file, path, form)
            sync_folder(folder)
        except OSError:
            self._note(manifest, {"kind": "close", "file": path.name, "samples": 0, "bytes": 0})
            raise
        self._manifest = manifest
        self._cut = next_cut(max(wall, named), plan.split_minutes, plan.zone)
        self.trouble = ""
        log.info("recorder.file_opened", source=plan.source, file=path.name)
        self._open = _Open(file, path, manifest, form)
        return self._open

    def _close_file(self) -> None:
        """Raises OSError, and then the file is still the open one."""
        current = self._open
        if current is not None:
            current.file.close()
            self._open = None
            self._end_of_file(current)

    def _finish_file(self) -> None:
        try:
            self._close_file()
        except OSError as error:
            self._disk_failed(error, 0)

    def _end_of_file(self, current: _Open) -> None:
        wall = self._at + self._offset
        line: Line = {"kind": "close", "file": current.path.name, "samples": current.samples}
        line |= {"bytes": size_of(current.path), "wall": round(wall, 6), "mono": round(self._at, 6)}
        line |= {"time": iso(wall), "boot": boot_id()}
        self._note(current.manifest, line)
        self._closed(current.path, current.manifest)

    def _disk_failed(self, error: OSError, unwritten: int) -> None:
        """Give up the file, mend what it holds, count what it does not, and try again later."""
        self.trouble = reason_of(error)
        log.error("recorder.disk_failed", source=self._plan.source, cause=self.trouble)
        current, self._open = self._open, None
        if current is not None:
            current.file.abandon()
            try:
                held = formats.mend(current.path, current.form).samples
            except OSError as worse:
                log.error("recorder.not_mended", file=str(current.path), cause=reason_of(worse))
                held = 0
            more = held - current.samples  # less: what an encoder held back; more: a part of the last write
            current.samples = held
            self._index += more
            self.recorded += more
            unwritten -= more
            self._end_of_file(current)
        self._retry_at = self._clock.mono() + RETRY_DISK_SECONDS
        self._away = _Away("disk", self.trouble, counted=unwritten)

    # The account

    def _go_away(self, down: Down) -> None:
        """From now on nothing comes; where that was so already, the first reason is the one that counts."""
        self._finish_file()
        self.trouble = down.detail
        if self._away is None and self._heard_at:  # else nothing was ever recorded: nothing is missing
            self._away = _Away(down.reason, down.detail)
        if self._away is not None and self._away.since is None:
            self._away.since = self._heard_at

    def _account_for_away(self, until: float) -> None:
        away, self._away = self._away, None
        if away is None:
            return
        timed = 0 if away.since is None else max(0, round((until - away.since) * self._form.rate))
        samples = away.counted + timed
        if samples or away.unsure:
            began = until - samples / self._form.rate
            self._note_gap(away.reason, self._index, samples, away.detail, timed > 0, began)
            self._index += samples

    def _gap(self, reason: str, samples: int, detail: str, *, estimated: bool) -> None:
        """Samples missing in the middle of what is being written."""
        if self._away is not None:
            if self._away.since is None:
                self._away.counted += samples
            return  # or timed already
        if not self._heard_at:
            return  # before the first sample
        self._note_gap(reason, self._index, samples, detail, estimated, self._at)
        self._index += samples
        self._at += samples / self._form.rate

    def _note_gap(
        self, reason: str, first: int, samples: int, detail: str, estimated: bool, began: float
    ) -> None:
        self.lost += samples
        line: Line = {"kind": "gap", "reason": reason, "first": first, "samples": samples}
        line |= {"seconds": round(samples / self._form.rate, 6), "estimated": estimated, "detail": detail}
        line |= {"time": iso(began + self._offset)}
        if self._open is not None:
            line |= {"file": self._open.path.name, "offset": self._open.samples}
        log.warning(
            "recorder.gap", source=self._plan.source, **{k: v for k, v in line.items() if k != "kind"}
        )
        if self._manifest is not None:
            self._note(self._manifest, line)

    def _entitle(self, text: str) -> None:
        if text == self._title:
            return
        self._title = text
        current = self._open
        if current is not None:
            line: Line = {"kind": "title", "title": text, "first": self._index}
            line |= {"file": current.path.name, "offset": current.samples}
            self._note(current.manifest, line | {"time": iso(self._at + self._offset)})

    def _look_at_clock(self) -> None:
        now = self._clock.wall() - self._clock.mono()
        jump, self._offset = now - self._offset, now
        if abs(jump) < JUMP_SECONDS:
            return
        log.warning("recorder.clock_set", source=self._plan.source, jump_seconds=round(jump, 3))
        line: Line = {"kind": "clock", "jump_seconds": round(jump, 6), "first": self._index}
        line |= {"time": iso(self._clock.wall())}
        if self._open is not None:
            line |= {"file": self._open.path.name, "offset": self._open.samples}
            wall = self._at + self._offset
            self._cut = min(self._cut, next_cut(wall, self._plan.split_minutes, self._plan.zone))
        if self._manifest is not None:
            self._note(self._manifest, line)

    def _note(self, manifest: Manifest, line: Line) -> None:
        """A line that cannot be written now is kept until it can."""
        self._pending.append((manifest, line))
        self._flush_pending()

    def _flush_pending(self, *, strict: bool = False) -> None:
        while self._pending:
            manifest, line = self._pending[0]
            try:
                manifest.append(line)
            except OSError:
                if strict:
                    raise
                return
            del self._pending[0]
