"""Time-scale changes of speech: a piece is left out or said twice where nobody hears the join.

A join is an overlap of two pieces that are alike, one fading out while the other fades in. In voiced speech that is a
period of the voice further on or back; in silence it is anywhere. Lengths are in units of 1/8000 s, each of them `wide`
samples (`audio.decoding`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offhook.audio.decoding import FRAME
from offhook.audio.pcm import Samples

SHORTEST, LONGEST = 20, 120  # units left out or repeated in one go: 2.5 to 15 ms, a period of 400 to 66 Hz
OVERLAP = 40  # units of a join, 5 ms
NEEDED = FRAME + LONGEST  # units from which every piece can be left out
NOISE_FLOOR = 100.0  # amplitude, -50 dBFS: what is below it is alike, whatever it is

Floats = npt.NDArray[np.float64]


def shorten(line: Samples, most: int, alike: float, wide: int = 1) -> tuple[Samples, int] | None:
    """Return a frame of the beginning of `line` with a piece left out, and how many units of `line` that used up.

    At most `most` units are left out, and at least `SHORTEST`. None when no two places within reach are alike enough
    (`similarities`, at least `alike`), or `line` is too short.
    """
    longest = min(most, LONGEST, len(line) // wide - FRAME)
    if longest < SHORTEST:
        return None
    units = _best_piece(line, longest, alike, wide)
    if units is None:
        return None
    piece, overlap = units * wide, OVERLAP * wide
    join = crossfade(line[:overlap], line[piece : piece + overlap])
    return np.concatenate([join, line[piece + overlap : piece + FRAME * wide]]), units + FRAME


def lengthen(line: Samples, most: int, alike: float, wide: int = 1) -> tuple[Samples, int] | None:
    """Return a frame of the beginning of `line` with a piece said twice, and how many units of `line` that used up.

    The counterpart of `shorten`, with the same limits.
    """
    longest = min(most, LONGEST, len(line) // wide - OVERLAP)
    if longest < SHORTEST or len(line) < FRAME * wide:
        return None
    units = _best_piece(line, longest, alike, wide)
    if units is None:
        return None
    piece, overlap = units * wide, OVERLAP * wide
    join = crossfade(line[piece : piece + overlap], line[:overlap])
    used = FRAME - units
    return np.concatenate([line[:piece], join, line[overlap : used * wide]]), used


def crossfade(old: Samples, new: Samples) -> Samples:
    """Return `old` becoming `new`, both of the same length, linearly."""
    share = np.arange(1, len(new) + 1) / (len(new) + 1)
    return np.rint(old + (new.astype(np.float64) - old) * share).astype(np.int16)


def similarities(template: Samples, line: Samples) -> Floats:
    """Return how alike `template` is to each piece of `line` of its length, first piece first: 1 for the same shape at
    any level, 0 for nothing in common, 1 for anything below the noise floor."""
    wanted, sound = template.astype(np.float64), line.astype(np.float64)
    floor = len(wanted) * NOISE_FLOOR**2 / 2
    energy = np.zeros(len(sound) + 1)  # of all that is before a sample; squares of integers, so differences are exact
    np.cumsum(sound * sound, out=energy[1:])
    energies = energy[len(wanted) :] - energy[: -len(wanted)] + floor
    alike: Floats = (np.correlate(sound, wanted) + floor) / np.sqrt(energies * (wanted @ wanted + floor))
    return alike


def _best_piece(line: Samples, longest: int, alike: float, wide: int) -> int | None:
    """Return how far from its beginning `line` is most like its beginning, in units, the longest way of several."""
    overlap = OVERLAP * wide
    found = similarities(line[:overlap], line[SHORTEST * wide : longest * wide + overlap])[::-wide]
    best = int(np.argmax(found))
    return longest - best if found[best] >= alike else None
