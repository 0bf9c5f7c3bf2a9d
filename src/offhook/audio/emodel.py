"""What people would say of a line's quality, estimated from its delay and loss: the E-model (ITU-T G.107).

Of the model only what a packet network changes is computed; all else (noise, echo, loudness) has the default values,
with which a perfect line has R = 93.2. The impairment by delay is the approximation by R. Cole and J. Rosenbluth
("Voice over IP performance monitoring", 2001), the one by loss is G.107's own for random loss, and MOS follows from R
by G.107 Annex B. It says what a narrow-band listener would say: G.722 and Opus sound better than this scale can tell.
"""

from __future__ import annotations

PERFECT = 93.2  # R of a line with neither delay nor loss
LOSS_ROBUSTNESS = 25.1  # Bpl of G.711 with concealment (G.113 Appendix I)
CODEC_IMPAIRMENT = 0.0  # Ie of G.711


def rating(delay_ms: float, loss: float) -> float:
    """Return R, 0 to 93.2, of a line with that one-way delay from mouth to ear, of whose packets `loss` (0 to 1) fail.

    The codec is taken for G.711 with concealment, whichever it is: for G.722 and Opus no values on this scale are
    published for our concealment.
    """
    by_delay = 0.024 * delay_ms + 0.11 * max(delay_ms - 177.3, 0.0)
    percent = 100 * loss
    by_loss = CODEC_IMPAIRMENT + (95 - CODEC_IMPAIRMENT) * percent / (percent + LOSS_ROBUSTNESS)
    return max(PERFECT - by_delay - by_loss, 0.0)


def mos(rating: float) -> float:
    """Return the mean opinion score, 1 (bad) to 4.5 (as good as a telephone can be), for R from 0 to 100."""
    return max(1.0, 1 + 0.035 * rating + 7e-6 * rating * (rating - 60) * (100 - rating))
