"""What a bot computes on samples, without numpy: the level of a frame, and one voice at another rate (docs/adr/0016).

The same figures as `pcm.level` and `resample.Resampler` give, to a rounding of the last bit, for some three and twenty
times the CPU. `either` chooses.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from math import ceil, gcd, inf, log10, pi, sin, sqrt
from operator import mul
from typing import TYPE_CHECKING

from offhook.audio.frames import FULL_SCALE, samples_per_frame

if TYPE_CHECKING:
    from offhook.audio.pcm import Samples

HALF_WIDTH = 20  # of the filter: input samples on each side, at the lower of the two rates
BETA = 7.0  # Kaiser: stop band about -70 dB
CUTOFF = 0.94  # of the lower rate's Nyquist frequency: -6 dB there


def level(samples: Samples | memoryview) -> float:
    """Return the level in dBFS of int16 samples, as `pcm.level` does; a `memoryview` of them has the format "h"."""
    values = samples.tolist()
    power = sum(map(mul, values, values))
    return 20 * log10(sqrt(2 * power / len(values)) / FULL_SCALE) if power else -inf


def half_width(rate_in: int, rate_out: int) -> int:
    """Return how many input samples the filter of a pair of rates sees on each side: its delay."""
    return ceil(HALF_WIDTH / min(1.0, rate_out / rate_in))


class PlainResampler:
    """Converts the 20 ms frames of one voice from `rate_in` to `rate_out` Hz, late by `half_width` input samples.

    Takes half a millisecond to two of CPU a frame. The weights of a new pair of rates are worked out first, and kept:
    some milliseconds, and up to a tenth of a second where the rates have little in common, as 44.1 and 16 kHz.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._samples_in = samples_per_frame(rate_in)
        self._samples_out = samples_per_frame(rate_out)
        common = gcd(rate_in, rate_out)
        self._up, self._down = rate_out // common, rate_in // common
        self._weights = _weights(rate_in, rate_out)
        self._taps = len(self._weights[0])
        self._heard = [0] * self._taps  # the last input samples: what the filter sees before the next ones

    def __call__(self, frame: bytes) -> bytes:
        """Take 20 ms of PCM at `rate_in`, return 20 ms at `rate_out`."""
        line = self._heard + memoryview(frame).cast("h").tolist()
        self._heard = line[self._samples_in :]
        made = array("h")
        for number in range(self._samples_out):
            at, phase = divmod(number * self._down, self._up)
            value = round(sum(map(mul, self._weights[phase], line[at + 1 : at + 1 + self._taps])))
            made.append(max(-32768, min(value, 32767)))
        return made.tobytes()


@lru_cache(maxsize=8)
def _weights(rate_in: int, rate_out: int) -> list[list[float]]:
    """Return the filter for each place that a result can have between two input samples."""
    half = half_width(rate_in, rate_out)
    cutoff = CUTOFF * min(1.0, rate_out / rate_in)
    up = rate_out // gcd(rate_in, rate_out)
    return [[_kaiser_sinc(tap - place / up, half, cutoff) for tap in range(1 - half, half + 1)] for place in range(up)]


def _kaiser_sinc(distance: float, half: int, cutoff: float) -> float:
    inside = 1 - (distance / half) ** 2
    if inside <= 0:
        return 0.0
    angle = pi * cutoff * distance
    return (sin(angle) / angle if angle else 1.0) * cutoff * _bessel(BETA * sqrt(inside)) / _bessel(BETA)


def _bessel(x: float) -> float:
    """The modified Bessel function I0, by its power series."""
    total = term = 1.0
    number = 1
    while term > 1e-12 * total:
        term *= (x / 2 / number) ** 2
        total += term
        number += 1
    return total
