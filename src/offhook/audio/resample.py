"""Sample rate conversion: our own polyphase FIR, for many rows at once, with a short fixed delay.

Streaming converters of general libraries give their output in bursts of 60–100 ms (docs/adr); a media tick needs
exactly one frame out for one frame in. The filter is a Kaiser-windowed sinc. A frame is converted as one matrix
product: sliding windows over the row's history and its frame, times a block-Toeplitz matrix of the filter's phases.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from offhook.audio.pcm import Samples, samples_per_frame
from offhook.audio.plain import BETA, CUTOFF, half_width

BLOCK = 40  # outputs a window gives, about: larger blocks waste products on zeros, smaller ones are overhead

Floats = npt.NDArray[np.float32]


class Resampler:
    """Converts 20 ms frames from `rate_in` to `rate_out` Hz, row by row of a matrix. Immutable; share it.

    A row's `history` (the last input samples of the frame before) is the caller's; `delay_ms` is the filter's, in ms.
    All-zero input on an all-zero history gives all-zero output.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self.samples_in = samples_per_frame(rate_in)
        self.samples_out = samples_per_frame(rate_out)
        common = gcd(rate_in, rate_out)
        up, down = rate_out // common, rate_in // common
        filter_, half = _filter(rate_in, rate_out)
        self.delay_ms = 1000 * half / rate_in
        self.memory = 2 * half  # input samples that a row remembers
        # A window of `hop` new inputs gives `made` outputs; the frame is a whole number of windows.
        self._hop = down * _repeats(self.samples_in // down, up)
        self._made = self._hop * up // down
        self._windows = self.samples_in // self._hop
        inputs = np.arange(self.memory + self._hop, dtype=np.float64)
        centres = half + np.arange(self._made) * (down / up)  # where each output lies among the window's inputs
        self._matrix = filter_(inputs[:, None] - centres).astype(np.float32)

    def history(self, rows: int) -> Floats:
        """Return the history of `rows` new rows: silence, (rows, memory)."""
        return np.zeros((rows, self.memory), np.float32)

    def process(self, frames: Samples, history: Floats) -> Samples:
        """Convert (rows, samples_in) to (rows, samples_out); `history` (rows, memory) is updated in place.

        A row's result may differ by 1 LSB with the number of rows beside it (the order of a float sum).
        """
        rows = len(frames)
        line = np.empty((rows, self.memory + self.samples_in), np.float32)
        line[:, : self.memory] = history
        line[:, self.memory :] = frames
        history[:] = line[:, self.samples_in :]
        step, width = line.strides
        windows = as_strided(
            line,
            (rows, self._windows, self.memory + self._hop),
            (step, self._hop * width, width),
            writeable=False,
        )
        made = (windows.reshape(rows * self._windows, -1) @ self._matrix).reshape(rows, self.samples_out)
        np.rint(made, out=made)
        return np.clip(made, -32768, 32767, out=made).astype(np.int16)


@lru_cache(maxsize=64)
def resampler(rate_in: int, rate_out: int) -> Resampler:
    """Return the one `Resampler` of this pair of rates."""
    return Resampler(rate_in, rate_out)


def convert(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """Convert a whole recording between any two rates from 4000 to 192000 Hz; no delay, length in proportion.

    Works through blocks of 4096 outputs, so memory stays in proportion to the recording.
    """
    for rate in (rate_in, rate_out):
        if not 4000 <= rate <= 192_000:
            raise ValueError(f"rate: {rate} Hz is not between 4000 and 192000")
    if rate_in == rate_out:
        return samples.copy()
    filter_, half = _filter(rate_in, rate_out)
    length = round(len(samples) * rate_out / rate_in)
    padded = np.concatenate([np.zeros(half + 1), samples, np.zeros(2 * half + 2)])
    out = np.empty(length, np.int16)
    taps = np.arange(-half, half + 1)
    for start in range(0, length, 4096):
        at = np.arange(start, min(start + 4096, length)) * (rate_in / rate_out)
        nearest = np.floor(at).astype(np.int64)
        indices = nearest[:, None] + taps
        block = np.einsum("ij,ij->i", padded[indices + half + 1], filter_(indices - at[:, None]))
        out[start : start + len(block)] = np.clip(np.rint(block), -32768, 32767)
    return out


class Converter:
    """The sample rate conversion of some rows, with what it remembers of each."""

    def __init__(self, rate_in: int, rate_out: int, rows: int) -> None:
        self.resampler = resampler(rate_in, rate_out)
        self.history = self.resampler.history(rows)

    def __call__(self, frames: Samples) -> Samples:
        return self.resampler.process(frames, self.history)


class _Sinc:
    """The low-pass filter as a function of the distance to its centre, in input samples."""

    def __init__(self, cutoff: float, half: int) -> None:
        self._cutoff = cutoff  # of the input's Nyquist frequency
        self._half = half
        self._window_scale = 1 / np.i0(BETA)

    def __call__(self, distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        inside = np.clip(1 - np.square(distance / self._half), 0, None)
        window = np.where(inside > 0, np.i0(BETA * np.sqrt(inside)) * self._window_scale, 0.0)
        shape: npt.NDArray[np.float64] = self._cutoff * np.sinc(self._cutoff * distance) * window
        return shape


def _filter(rate_in: int, rate_out: int) -> tuple[_Sinc, int]:
    """Return the filter of a pair of rates and its half width in input samples."""
    ratio = min(1.0, rate_out / rate_in)
    half = half_width(rate_in, rate_out)
    return _Sinc(CUTOFF * ratio, half), half


def _repeats(units: int, up: int) -> int:
    """Return how many units of `up` outputs make a block near `BLOCK`, dividing the frame's `units` evenly."""
    divisors = [n for n in range(1, units + 1) if units % n == 0]
    return min(divisors, key=lambda n: abs(n * up - BLOCK))
