r"""The engine `speexdsp`: Speex's canceller and residual echo suppressor, aligned in delay and clock.

Speex keeps the talker intelligible and costs little, but knows no delay beyond its tail and no second clock.
So the far end is delayed until its echo comes `_LEAD_MS` after it, and resampled to the microphone's clock:

    far  48 -> 16 kHz -> FarLine (delay, pace) -> Speex -> preprocessor -> 16 -> 48 kHz -> out
    near 48 -> 16 kHz -> wait -> NotchUndo -------^
         \-> wait as long as all that -> out, while nothing has been played for a while

Where the delay goes, a new filter learns the recent past at the new delay, some frames in one, and takes
over when it is the better one. Added latency: see `latency`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinna.audio import speexdsp
from pinna.audio.aec import EchoState
from pinna.audio.aec.clock import Drift, PathWatch
from pinna.audio.aec.delay import HOP_FRAMES, DelayFinder
from pinna.audio.aec.farline import HALF_TAPS, Delay, FarLine
from pinna.audio.aec.notch import NotchUndo
from pinna.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Samples

_NEAR_DELAY_MS: Final = 4  # the near end waits, so that an echo that is hardly late still comes after
_LEAD_MS: Final = 5  # the far end's lead on its echo, inside the tail
_LONGEST_MS: Final = 480
_ACTIVE: Final = 50.0**2  # power of a far-end block that is no silence: -56 dBFS
_RINGS_MS: Final = 400  # after the echo's end the room still rings

_HISTORY: Final = 18  # frames kept for a new filter to learn from
_CATCH_UP: Final = 4  # frames it learns in one
_PASSES: Final = 3  # times it learns them
_BETTER: Final = 0.7  # part of the old filter's residual that a new one must reach to take over

_SHARP: Final = 18.0  # a correlation peak that is one
_SLIP_MS: Final = 0.75
_GONE: Final = 0.4  # strength left at the old delay, to the new one's, when the echo has moved for good
_CALM_HOPS: Final = 6  # hops between two looks for the delay when nothing is wrong
_ALARM_HOPS: Final = 10  # hops of close attention after a sudden loss
_LOSS_DB: Final = 8.0

_WATCH_FRAMES: Final = 20  # of far-end activity between two looks at the impulse response
_SURE_PPM: Final = 40.0


def _power(block: Samples) -> float:
    wide = block[::2].astype(np.float32)  # every other sample tells as much, for half the work
    return float(wide @ wide) / wide.size


class _Pupil:
    """A new filter on its way: it has learnt up to `at`, and will begin again at `start` `passes` times."""

    def __init__(self, echo: speexdsp.EchoState, delay: Delay, peak: float, start: int) -> None:
        self.echo, self.delay, self.peak = echo, delay, peak
        self.start = self.at = start
        self.passes = _PASSES
        self.powers: deque[float] = deque(maxlen=15)


class AlignedSpeex:
    """`rate`: of the core, Hz. `tail_ms`: how long a room it learns."""

    def __init__(self, rate: int = 16_000, tail_ms: int = 160) -> None:
        self._rate = rate
        self._frame = rate * FRAME_MS // 1000
        self._tail = rate * tail_ms // 1000
        self._echo = self._new_filter()
        self._residual = speexdsp.Preprocessor(self._frame, rate, echo=self._echo)
        self._notch = NotchUndo(self._frame, rate)
        self._near_down = speexdsp.Resampler(SAMPLE_RATE, rate)
        self._far_down = speexdsp.Resampler(SAMPLE_RATE, rate)
        self._up = speexdsp.Resampler(rate, SAMPLE_RATE)
        self._near_wait = np.zeros(_NEAR_DELAY_MS * rate // 1000, np.int16)
        self.latency = (
            FRAME_SAMPLES  # the preprocessor's
            + (self._near_down.latency + self._near_wait.size) * (SAMPLE_RATE // rate)
            + self._up.latency
        )
        """Samples at 48 kHz by which the output is late."""
        self._raw_wait = np.zeros(self.latency, np.int16)
        self._through = 1.0  # 1: the microphone as it is; 0: the canceller's output
        self._quiet = 1 << 30  # frames since the far end was last active

        self._finder = DelayFinder(self._frame, rate, _LONGEST_MS)
        self._line = FarLine(self._frame * (_HISTORY + 2) + (_LONGEST_MS + 20) * rate // 1000)
        self._delay = Delay(float(HALF_TAPS))
        self._lead: float | None = None  # samples from the aligned far end to its echo; None: not found yet
        self._candidate: float | None = None
        self._pupil: _Pupil | None = None
        self._nears: deque[Samples] = deque(maxlen=_HISTORY)
        self._powers: deque[tuple[float, float]] = deque(maxlen=50)  # near end, residual; with far end only
        self._usual_db = 0.0
        self._calm = 0
        self._alarm = 0
        self._watch = PathWatch(rate)
        self._drift = Drift(rate)
        self._since_watch = 0
        self._heard_since_watch = 0

    def _new_filter(self) -> speexdsp.EchoState:
        return speexdsp.EchoState(self._frame, self._tail, self._rate)

    def process(self, near: Samples, far: Samples) -> Samples:
        for name, block in (("near", near), ("far", far)):
            if block.shape != (FRAME_SAMPLES,) or block.dtype != np.int16:
                raise ValueError(f"{name}: want int16 of shape ({FRAME_SAMPLES},)")
        now = np.concatenate([self._near_wait, self._near_down.process(np.ascontiguousarray(near))])
        now, self._near_wait = now[: self._frame], now[self._frame :]
        now = self._notch.run(now)
        played = self._far_down.process(np.ascontiguousarray(far))
        position = self._line.end
        self._line.push(played)
        self._nears.append(now)
        self._quiet = 0 if _power(played) > _ACTIVE else self._quiet + 1

        aligned = self._line.read(position, self._frame, self._delay)
        out = self._echo.cancel(now, aligned)
        if self._lead is not None and _power(aligned) > _ACTIVE:
            self._powers.append((_power(now), _power(out)))
            self._heard_since_watch += 1
        if self._finder.push(now, played, active=self._quiet * FRAME_MS < _LONGEST_MS):
            self._seek()
        self._teach()
        self._follow()
        self._residual.run(out)
        return self._blend(self._up.process(out), near)

    def _blend(self, out: Samples, near: Samples) -> Samples:
        """The microphone itself, just as late, while there can be no echo."""
        waiting = np.concatenate([self._raw_wait, near])
        raw, self._raw_wait = waiting[:FRAME_SAMPLES], waiting[FRAME_SAMPLES:]
        echo_ms = _LONGEST_MS if self._lead is None else self._peak / self._rate * 1000
        before, self._through = self._through, float(self._quiet * FRAME_MS > echo_ms + _RINGS_MS)
        if before == self._through:
            return raw if before else out
        fade = np.linspace(before, self._through, FRAME_SAMPLES, dtype=np.float32)
        return np.rint(out + fade * (raw.astype(np.float32) - out)).astype(np.int16)

    @property
    def _peak(self) -> float:
        """Samples from the far end to its echo."""
        return self._delay.at(self._line.end) + (self._lead or 0.0)

    def _seek(self) -> None:
        """A hop of the delay finder is complete: see whether the delay is what we think."""
        self._listen_for_loss()
        known = None if self._lead is None else self._peak
        self._calm += 1
        if self._finder.heard < 2 or self._pupil is not None:
            return
        settled = known is not None and self._alarm == 0 and self._candidate is None
        if settled and self._calm < _CALM_HOPS:
            return
        self._calm = 0
        found = self._finder.find(known)
        before, self._candidate = self._candidate, None
        if found.sharpness < _SHARP:
            return
        if known is not None and abs(found.samples - known) < _SLIP_MS * self._rate / 1000:
            return
        self._candidate = found.samples
        if before is not None and abs(before - found.samples) < 0.0003 * self._rate:
            self._candidate = None
            self._enrol(found.samples)
            if known is not None and found.rival < _GONE:
                self._shift(found.samples)

    def _shift(self, peak: float) -> None:
        """No echo is left where it was: what the old filter learnt holds at the new delay, till unlearnt."""
        assert self._lead is not None
        self._delay = Delay(max(peak - self._lead, float(HALF_TAPS)), self._delay.slope, self._line.end)
        self._drift.jumped()

    def _listen_for_loss(self) -> None:
        """A sudden loss of echo return loss enhancement is double talk or a slip: look closer for a while."""
        self._alarm = max(0, self._alarm - 1)
        if self._lead is None or len(self._powers) < HOP_FRAMES:
            return
        recent = list(self._powers)[-HOP_FRAMES:]
        db = 10 * np.log10((sum(p for p, _ in recent) + 1) / (sum(p for _, p in recent) + 1))
        if db < self._usual_db - _LOSS_DB and self._alarm == 0:
            self._alarm = _ALARM_HOPS
            self._finder.forget_all()
        self._usual_db += 0.1 * (db - self._usual_db)

    def _enrol(self, peak: float) -> None:
        """Begin to teach a new filter the delay at which the echo comes after `peak` samples."""
        end = self._line.end
        delay = Delay(max(peak - _LEAD_MS * self._rate / 1000, float(HALF_TAPS)), self._delay.slope, end)
        frames = min(len(self._nears), self._finder.heard * HOP_FRAMES)
        self._pupil = _Pupil(self._new_filter(), delay, peak, end - frames * self._frame)

    def _teach(self) -> None:
        pupil, end = self._pupil, self._line.end
        if pupil is None:
            return
        for _ in range(_CATCH_UP):
            if pupil.at >= end:
                pupil.passes -= 1
                if pupil.passes == 0:
                    self._examine(pupil)
                    return
                pupil.at = max(pupil.start, end - len(self._nears) * self._frame)
            near = self._nears[-((end - pupil.at) // self._frame)]
            out = pupil.echo.cancel(near, self._line.read(pupil.at, self._frame, pupil.delay))
            pupil.powers.append(_power(out))
            pupil.at += self._frame

    def _examine(self, pupil: _Pupil) -> None:
        """The pupil has caught up: let it take over if it is the better."""
        self._pupil = None
        old = [power for _, power in self._powers][-len(pupil.powers) :]
        if self._lead is not None and np.mean(pupil.powers) > _BETTER * np.mean(old):
            pupil.echo.close()
            return
        self._residual.listen_to(pupil.echo)
        self._echo.close()
        self._echo, self._delay = pupil.echo, pupil.delay
        self._lead = pupil.peak - pupil.delay.samples
        self._powers.clear()
        self._usual_db = 0.0
        self._alarm = 0
        self._watch.forget()
        self._drift.jumped()
        self._since_watch = self._heard_since_watch = 0

    def _follow(self) -> None:
        """Now and then see how far the echo path has moved, and set the far end's pace by it."""
        self._since_watch += 1
        if self._lead is None or self._heard_since_watch < _WATCH_FRAMES:
            return
        seconds = self._since_watch * FRAME_MS / 1000
        self._since_watch = self._heard_since_watch = 0
        where = self._watch.where(self._echo.impulse_response())
        if where is None:
            return
        position = self._line.end
        self._drift.update(self._delay.at(position) + where, seconds, self._delay.slope * self._rate)
        if self._drift.uncertainty_ppm < _SURE_PPM:
            self._delay = self._delay.turned(self._drift.growth / self._rate, position)

    def discontinuity(self) -> None:
        self._finder.forget_all()
        self._alarm = _ALARM_HOPS
        self._candidate = None
        self._drift.jumped()

    @property
    def state(self) -> EchoState:
        if self._lead is None:
            return EchoState("speexdsp")
        erle = self._erle()
        drift = -self._drift.growth / self._rate * 1e6
        return EchoState(
            "speexdsp",
            delay_ms=self._peak / self._rate * 1000 - _NEAR_DELAY_MS,
            drift_ppm=drift if self._drift.uncertainty_ppm < 10 else None,
            erle_db=erle,
            converged=erle is not None and erle > 10,
        )

    def _erle(self) -> float | None:
        """Over the better half of the last second with far end: the other half may be double talk."""
        if len(self._powers) < 10:
            return None
        pairs: NDArray[np.float64] = np.array(self._powers) + 1.0
        ratio = pairs[:, 0] / pairs[:, 1]
        best = pairs[ratio >= np.median(ratio)].sum(axis=0)
        return float(10 * np.log10(best[0] / best[1]))

    def close(self) -> None:
        if self._pupil is not None:
            self._pupil.echo.close()
            self._pupil = None
        for part in (self._residual, self._echo, self._near_down, self._far_down, self._up):
            part.close()
