"""The card of counting_card.c, and what of its samples somebody has.

Unlike a sound server's it has a ring that overflows, so that real programs on real alsa-lib lose samples; and
each sample says which one it is, so that nobody has to be believed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PCM = "counting"
RATE = 48_000
CHANNELS = 2
FRAME_BYTES = 4
_SOURCE = Path(__file__).with_name("counting_card.c")


def card(folder: Path) -> dict[str, str]:
    """Builds it there. The environment in which programs find it as PCM `counting`."""
    plugin = folder / "libasound_module_pcm_counting.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-DPIC"]
    subprocess.run(["gcc", *flags, "-o", str(plugin), str(_SOURCE), "-lasound"], check=True)
    configuration = folder / "counting.conf"
    configuration.write_text(
        f'pcm_type.counting {{ lib "{plugin}" }}\n'
        f"pcm.{PCM} {{ type counting hint {{ show on description numbers }} }}\n"
    )
    return os.environ | {"ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{configuration}"}


def numbers(samples: bytes | NDArray[np.int16]) -> NDArray[np.int64]:
    """Of frames as captured (16 bits, two channels), the number of each."""
    words = (
        np.frombuffer(samples, "<u2") if isinstance(samples, bytes) else samples.view(np.uint16).reshape(-1)
    )
    return words[0::2].astype(np.int64) | words[1::2].astype(np.int64) << 16


def lost(found: NDArray[np.int64]) -> int:
    """Samples missing between the first and the last; of more than 2**32 (a day) the count begins anew."""
    steps = np.diff(found) % 2**32
    assert steps.all(), "a sample came twice"
    return int((steps - 1).sum())
