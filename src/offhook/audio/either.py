"""By numpy where it is installed, and else without: what `offhook.bot` computes on samples (docs/adr/0016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from offhook.audio import plain

if TYPE_CHECKING:
    from offhook.audio.pcm import Samples

try:
    import numpy as np
except ModuleNotFoundError:
    HAVE_NUMPY = False
else:
    from offhook.audio import pcm, resample

    HAVE_NUMPY = True


def level(samples: Samples | memoryview) -> float:
    """Return the level in dBFS of int16 samples; a `memoryview` of them has the format "h"."""
    return pcm.level(np.asarray(samples)) if HAVE_NUMPY else plain.level(samples)


def frame_resampler(rate_in: int, rate_out: int) -> Callable[[bytes], bytes]:
    """Return what converts one voice, a 20 ms frame of PCM at a time, late by `plain.half_width` input samples."""
    if not HAVE_NUMPY:
        return plain.PlainResampler(rate_in, rate_out)
    convert = resample.Converter(rate_in, rate_out, rows=1)

    def by_numpy(frame: bytes) -> bytes:
        return convert(pcm.as_samples(frame)[np.newaxis]).tobytes()

    return by_numpy
