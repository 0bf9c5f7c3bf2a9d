"""Loss concealment: how speech at 8 kHz would most likely have gone on, made of what was heard before.

Voiced speech repeats itself every few milliseconds, and changes slowly. So the last period is repeated. As in what
G.711 Appendix I publishes of its own method, the first 10 ms keep their level, and then it fades: after a while nobody
knows what was said, and a frozen vowel is worse than silence. The figures are in docs/audio-quality.md.
"""

from __future__ import annotations

import numpy as np

from offhook.audio.pcm import Samples
from offhook.audio.stretch import similarities

LASTS = 800  # samples until a continuation has faded away, 100 ms
HOLD = 80  # samples at full level, 10 ms
SHORTEST, LONGEST = 40, 120  # samples of a period: 200 to 66 Hz; a higher voice repeats every second or third period
TEMPLATE = 80  # samples that are compared in search of the period, 10 ms
HISTORY = LONGEST + TEMPLATE  # samples of the past that are looked at

_GAIN = np.clip((LASTS - np.arange(LASTS)) / (LASTS - HOLD), 0.0, 1.0)


def continuation(history: Samples) -> Samples:
    """Return `LASTS` samples that go on from `history`, fading away.

    Of `history` the last `HISTORY` samples matter; what it lacks of them is taken as silence.
    """
    past = np.zeros(HISTORY, np.int16)
    if len(history):
        past[-len(history) :] = history[-HISTORY:]
    length = _period(past)
    period = past[-length:].astype(np.float64)
    # The end of the period leads into its beginning: it becomes what came before that beginning.
    overlap = length // 4
    share = np.arange(1, overlap + 1) / (overlap + 1)
    before = past[-length - overlap : -length]
    period[-overlap:] += (before - period[-overlap:]) * share
    return np.rint(np.resize(period, LASTS) * _GAIN).astype(np.int16)


def _period(past: Samples) -> int:
    """Return the distance, in samples, at which the end of `past` is most like what came before it."""
    alike = similarities(past[-TEMPLATE:], past[-LONGEST - TEMPLATE : -SHORTEST])
    return LONGEST - int(np.argmax(alike))
