"""Records ramps and is killed at random moments, again and again. Arguments: FOLDER FORMAT TIMES SEED.

Each life is a fork that mends what the one before left, goes on with its account and records numbered samples
at many times the speed of the clock. Prints, for each, the index that it had reached (by shared memory, which
outlives it) and the index up to which its files were mended.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

import structlog
from tests.support.ramps import FastTime, plan, ramp

from pinna.recorder.events import Chunk
from pinna.recorder.formats import Form
from pinna.recorder.recover import recover
from pinna.recorder.track import Track

SPEED = 300.0


def live(folder: Path, form: Form, reached: mmap.mmap) -> None:
    clock = FastTime(SPEED)
    recovered = recover(folder)
    track = Track(plan(folder, form), clock, lambda *_: None)
    track.resume(recovered.account)
    done = round(clock.mono() * form.rate)
    while True:
        now = clock.mono()
        count = round(now * form.rate) - done
        track.take(Chunk(ramp(done, count, form), now))
        done += count
        reached[:8] = (track.index).to_bytes(8, "little")
        time.sleep(0.002)


def main(folder: Path, kind: str, times: int, seed: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    chance = random.Random(seed)
    reached = mmap.mmap(-1, 8)
    form = Form(kind, 8000, 1, 16)
    folder.mkdir(parents=True)
    for _ in range(times):
        reached[:8] = bytes(8)
        child = os.fork()
        if child == 0:
            live(folder, form, reached)
        while reached[:8] == bytes(8):  # it records
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(int.from_bytes(reached[:8], "little"), recover(folder).account.end, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
