"""Recordings of any rate, converted a second at a time: what that takes of memory does not grow with their length.

`resample.convert` works its filter out anew for every sample of the result, which suits short sounds. Here it is worked
out once: minutes of sound are converted hundreds of times faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from offhook.audio.pcm import Samples
from offhook.audio.resample import _filter

Floats = npt.NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 4000, 192_000  # Hz


def converted(pieces: Iterable[Floats], rate_in: int, rate_out: int) -> Iterator[Samples]:
    """Yield a recording at `rate_out` Hz, a second at a time; no delay, length in proportion.

    `pieces` are its samples, scaled as 16-bit ones, of a second at most each. Raises ValueError for a rate out of 4000
    to 192000 Hz.
    """
    for rate in (rate_in, rate_out):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"rate: {rate} Hz is not between {LOWEST_RATE} and {HIGHEST_RATE}")
    if rate_in == rate_out:
        yield from map(_rounded, pieces)
        return
    second = _Second(rate_in, rate_out)
    line = np.zeros(second.half, np.float32)  # what the filter sees before the next second, and what came since
    taken = given = 0
    for piece in pieces:
        taken += len(piece)
        line = np.concatenate([line, piece])
        if len(line) >= second.needs:
            yield second.convert(line)
            given += rate_out
            line = line[rate_in:]
    line = np.concatenate([line, np.zeros(2 * second.needs, np.float32)])
    while (missing := round(taken * rate_out / rate_in) - given) > 0:
        yield second.convert(line)[:missing]
        given += rate_out
        line = line[rate_in:]


class _Second:
    """Converts one second. Its samples fall between those of the input in a few ways, the phases of the filter."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        filter_, self.half = _filter(rate_in, rate_out)
        self.needs = rate_in + 2 * self.half
        self._repeats = gcd(rate_in, rate_out)
        self._step = rate_in // self._repeats  # from one sample of a phase to the next, in input samples
        ticks = np.arange(rate_out // self._repeats) * rate_in
        self._first = (ticks // rate_out).tolist()  # of the inputs that the first sample of a phase is made of
        taps = np.arange(-self.half, self.half + 1)
        self._weights = filter_(taps - (ticks % rate_out / rate_out)[:, None]).astype(np.float32)  # (phases, taps)

    def convert(self, line: Floats) -> Samples:
        windows = sliding_window_view(line[: self.needs], 2 * self.half + 1)
        made = np.empty((self._repeats, len(self._first)), np.float32)
        for phase, first in enumerate(self._first):
            made[:, phase] = windows[first :: self._step][: self._repeats] @ self._weights[phase]
        return _rounded(made.reshape(-1))


def _rounded(samples: Floats) -> Samples:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
