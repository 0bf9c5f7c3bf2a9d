"""Comfort noise (RFC 3389): the quiet hiss that stands for a telephone that sends nothing as nobody speaks.

Only the level is taken over. A description of the spectrum may follow it; the hiss is white all the same.
"""

from __future__ import annotations

import numpy as np

from offhook.audio.pcm import Samples

PAYLOAD_TYPE = 13  # static, for every codec with a clock of 8 kHz
QUIETEST = 127  # -dBov: nothing is heard of it

_OVERLOAD = 32_768.0  # 0 dBov: a square wave of full scale


def level(payload: bytes) -> int:
    """Return the level that a payload of comfort noise says, in -dBov, 0 (loud) to 127; none said is `QUIETEST`."""
    return payload[0] & 0x7F if payload else QUIETEST


class ComfortNoise:
    """White noise at `level` (-dBov), `wide` samples a unit, for as long as it is asked for."""

    def __init__(self, level: int, wide: int) -> None:
        self._deviation = _OVERLOAD * 10 ** (-level / 20)
        self._wide = wide
        self._random = np.random.default_rng(level)

    def take(self, units: int) -> Samples:
        """Return the next `units` (`decoding.UNITS_PER_S`) of noise."""
        noise = self._random.normal(0.0, self._deviation, units * self._wide)
        return np.clip(np.rint(noise), -32_768, 32_767).astype(np.int16)
