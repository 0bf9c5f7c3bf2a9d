"""Loss concealment: how speech would most likely have gone on, made of what was heard before.

Voiced speech repeats itself every few milliseconds, and changes slowly. So the last period is repeated. As in what
G.711 Appendix I publishes of its own method, the first 10 ms keep their level, and then it fades: after a while nobody
knows what was said, and a frozen vowel is worse than silence. The figures are in docs/audio-quality.md. Lengths are in
units of 1/8000 s, each of them `wide` samples (`audio.decoding`).
"""

from __future__ import annotations

import numpy as np

from offhook.audio.pcm import Samples
from offhook.audio.stretch import similarities

LASTS = 800  # units until a continuation has faded away, 100 ms
HOLD = 80  # units at full level, 10 ms
SHORTEST, LONGEST = 40, 120  # units of a period: 200 to 66 Hz; a higher voice repeats every second or third period
TEMPLATE = 80  # units that are compared in search of the period, 10 ms
HISTORY = LONGEST + TEMPLATE  # units of the past that are looked at

_GAIN = np.clip((LASTS - np.arange(LASTS)) / (LASTS - HOLD), 0.0, 1.0)


def continuation(history: Samples, wide: int = 1) -> Samples:
    """Return `LASTS` units that go on from `history`, fading away.

    Of `history` the last `HISTORY` units matter; what it lacks of them is taken as silence.
    """
    past = np.zeros(HISTORY * wide, np.int16)
    if len(history):
        past[-len(history) :] = history[-HISTORY * wide :]
    length = _period(past, wide)
    period = past[-length:].astype(np.float64)
    # The end of the period leads into its beginning: it becomes what came before that beginning.
    overlap = length // 4
    share = np.arange(1, overlap + 1) / (overlap + 1)
    before = past[-length - overlap : -length]
    period[-overlap:] += (before - period[-overlap:]) * share
    gain = _GAIN if wide == 1 else np.repeat(_GAIN, wide)
    return np.rint(np.resize(period, len(gain)) * gain).astype(np.int16)


class Excerpt:
    """Some sound, bit by bit: see `decoding.Filling`."""

    def __init__(self, sound: Samples, wide: int = 1) -> None:
        self._sound = sound
        self._wide = wide
        self._used = 0  # samples

    def take(self, units: int) -> Samples:
        """Return the next `units`; silence when it has faded away."""
        begin = self._used
        self._used = end = begin + units * self._wide
        piece = self._sound[begin:end]
        return piece if len(piece) == end - begin else np.pad(piece, (0, end - begin - len(piece)))


class Continuation(Excerpt):
    """The `continuation` of `past`."""

    def __init__(self, past: Samples, wide: int = 1) -> None:
        super().__init__(continuation(past, wide), wide)


def _period(past: Samples, wide: int) -> int:
    """Return the distance, in samples, at which the end of `past` is most like what came before it."""
    alike = similarities(past[-TEMPLATE * wide :], past[-(LONGEST + TEMPLATE) * wide : -SHORTEST * wide])
    return LONGEST * wide - int(np.argmax(alike))
