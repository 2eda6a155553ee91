"""The engine `speexdsp`: Speex's canceller and residual echo suppressor, aligned in delay and clock.

Speex keeps the talker intelligible and costs little, but knows no delay beyond its tail and no second clock.
So the far end is delayed until its echo comes `_LEAD_MS` after it, and resampled to the microphone's clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from pinna.audio import speexdsp
from pinna.audio.aec import EchoState
from pinna.audio.aec.clock import Drift, PathWatch
from pinna.audio.aec.delay import HOP_FRAMES, DelayFinder
from pinna.audio.aec.farline import HALF_TAPS, Delay, FarLine
from pinna.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Samples

_NEAR_DELAY_MS: Final = 4  # the near end waits, so that an echo that is hardly late still comes after
_LEAD_MS: Final = 5  # the far end's lead on its echo, inside the tail
_LONGEST_MS: Final = 480
_HISTORY: Final = 50  # frames kept for a new filter to learn from
_CATCH_UP: Final = 4  # frames a new filter learns in one
_PASSES: Final = 3
_SHARP: Final = 18.0
_SLIP_MS: Final = 0.75
_ACTIVE: Final = 100.0  # RMS of a far-end block that is no silence: -50 dBFS
_HOLD: Final = 20  # frames the room still rings
_WATCH: Final = 25  # frames between two looks at the impulse response


def _power(block: Samples) -> float:
    wide = block.astype(np.float32)
    return float(wide @ wide) / block.size


class _Pupil:
    """A new Speex filter that learns the recent past at another delay, faster than time passes."""

    def __init__(self, filter_: speexdsp.EchoState, delay: Delay, start: int, passes: int) -> None:
        self.filter, self.delay, self.start, self.passes = filter_, delay, start, passes
        self.at = start
        self.powers: deque[float] = deque(maxlen=15)


class AlignedSpeex:
    def __init__(self, rate: int = 16_000, tail_ms: int = 100) -> None:
        self._rate = rate
        self._frame = rate * FRAME_MS // 1000
        self._tail = rate * tail_ms // 1000
        self._echo = self._new_filter()
        self._residual = speexdsp.Preprocessor(self._frame, rate, echo=self._echo)
        self._near_down = speexdsp.Resampler(SAMPLE_RATE, rate)
        self._far_down = speexdsp.Resampler(SAMPLE_RATE, rate)
        self._up = speexdsp.Resampler(rate, SAMPLE_RATE)
        self._finder = DelayFinder(self._frame, rate, _LONGEST_MS)
        self._line = FarLine(self._frame * (_HISTORY + 2) + (_LONGEST_MS + 20) * rate // 1000)
        self._near_wait = np.zeros(_NEAR_DELAY_MS * rate // 1000, np.int16)
        self._past: deque[Samples] = deque(maxlen=_HISTORY)
        self._past_powers: deque[float] = deque(maxlen=15)
        self._delay = Delay(float(HALF_TAPS))
        self._peak: float | None = None  # samples, far end to echo
        self._candidate: float | None = None
        self._pupil: _Pupil | None = None
        self._hops = 0
        self._hold = 0
        self._watch = PathWatch(rate)
        self._drift = Drift(rate)
        self._since_watch = 0
        self._active_since_watch = 0
        self._powers: deque[tuple[float, float]] = deque(maxlen=50)

    def _new_filter(self) -> speexdsp.EchoState:
        return speexdsp.EchoState(self._frame, self._tail, self._rate)

    def process(self, near: Samples, far: Samples) -> Samples:
        now = self._near_down.process(near)
        waiting = np.concatenate([self._near_wait, now])
        now, self._near_wait = waiting[: self._frame].copy(), waiting[self._frame :]
        played = self._far_down.process(far)
        position = self._line.end
        self._line.push(played)
        self._past.append(now)
        active = _power(played) > _ACTIVE**2
        self._hold = _HOLD if active else self._hold - 1

        aligned = self._line.read(position, self._frame, self._delay)
        out = self._echo.cancel(now, aligned)
        if _power(aligned) > _ACTIVE**2:
            self._powers.append((_power(now), _power(out)))
            self._active_since_watch += 1
        if self._finder.push(now, played, active=self._hold > 0):
            self._consider()
        self._teach()
        self._follow()
        self._residual.run(out)
        return self._up.process(out)

    def _consider(self) -> None:
        self._hops += 1
        if self._finder.heard < 2:
            return
        found = self._finder.find()
        if found.sharpness < _SHARP:
            self._candidate = None
            return
        known = None if self._peak is None else self._delay.at(self._line.end) + self._lead
        if known is not None and abs(found.samples - known) < _SLIP_MS * self._rate / 1000:
            self._candidate = None
            return
        before, self._candidate = self._candidate, found.samples
        if before is None or abs(before - found.samples) > 3 or self._pupil is not None:
            return
        self._start_pupil(found.samples)

    def _start_pupil(self, peak: float) -> None:
        wanted = max(peak - _LEAD_MS * self._rate / 1000, float(HALF_TAPS))
        end = self._line.end
        delay = Delay(wanted, self._delay.slope, end)
        frames = min(len(self._past), self._finder.heard * HOP_FRAMES, 30)
        self._pupil_peak = peak
        self._pupil = _Pupil(self._new_filter(), delay, end - frames * self._frame, _PASSES)

    def _teach(self) -> None:
        pupil = self._pupil
        if pupil is None:
            return
        end = self._line.end
        for _ in range(_CATCH_UP):
            if pupil.at >= end:
                pupil.passes -= 1
                if pupil.passes <= 0:
                    break
                pupil.at = pupil.start
            back = (end - pupil.at) // self._frame
            if back > len(self._past):
                pupil.at += self._frame
                continue
            now = self._past[-back]
            out = pupil.filter.cancel(now, self._line.read(pupil.at, self._frame, pupil.delay))
            pupil.powers.append(_power(out))
            pupil.at += self._frame
        if pupil.passes <= 0:
            self._graduate(pupil)

    def _graduate(self, pupil: _Pupil) -> None:
        self._pupil = None
        self._residual.listen_to(pupil.filter)
        self._echo.close()
        self._echo = pupil.filter
        self._delay = pupil.delay
        self._peak = self._pupil_peak
        self._lead = self._peak - pupil.delay.samples
        self._watch.forget()
        self._drift.jumped()
        self._since_watch = 0
        self._active_since_watch = 0

    def _follow(self) -> None:
        self._since_watch += 1
        if self._since_watch < _WATCH or self._peak is None:
            return
        seconds = self._since_watch * FRAME_MS / 1000
        if self._active_since_watch < _WATCH // 3:
            return
        self._since_watch = self._active_since_watch = 0
        where = self._watch.where(self._echo.impulse_response())
        if where is None:
            return
        position = self._line.end
        self._drift.update(self._delay.at(position) + where, seconds)
        if self._drift.uncertainty_ppm < 30:
            slope = self._drift.growth / self._rate
            change = abs(slope - self._delay.slope)
            if change > 5e-6:
                self._drift.unsettle(change * self._rate * 0.7)
            self._delay = self._delay.turned(slope, position)

    def discontinuity(self) -> None:
        self._finder.forget_all()

    @property
    def state(self) -> EchoState:
        erle = None
        if len(self._powers) >= 10:
            pairs = np.array(self._powers)
            ratio = (pairs[:, 0] + 1) / (pairs[:, 1] + 1)
            best = ratio >= np.median(ratio)
            erle = float(10 * np.log10((pairs[best, 0].sum() + 1) / (pairs[best, 1].sum() + 1)))
        delay = None
        if self._peak is not None:
            delay = (self._delay.at(self._line.end) + self._lead) / self._rate * 1000 - _NEAR_DELAY_MS
        drift = -self._drift.growth / self._rate * 1e6 if self._drift.uncertainty_ppm < 10 else None
        return EchoState("speexdsp", delay, drift, erle, self._peak is not None and (erle or 0) > 10)

    def close(self) -> None:
        for part in (self._residual, self._echo, self._near_down, self._far_down, self._up):
            part.close()
