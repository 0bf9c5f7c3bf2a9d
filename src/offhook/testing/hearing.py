"""What follows from what a caller heard: when there was sound, which tone it was, how long a reply took.

All times are seconds of what the caller heard, from the moment it was connected. There is sound where a frame of 20 ms
has a level of `AUDIBLE_DBFS` or more. Whether it is speech is not judged: only that it lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offhook.audio.pcm import FRAME_MS, FULL_SCALE, Samples, level, samples_per_frame, tone_level

AUDIBLE_DBFS = -50.0  # a frame below this is silence: a quiet line has -60 to -70, a soft voice -40
JOIN_S = 0.3  # a shorter pause is within a phrase
FILLER_S = 0.8  # a shorter sound before a longer one is a filler: "hm", "one moment"
TONE_S = 0.2  # how long a tone has to last
TONE_DB = 3.0  # how near to its expected level a tone has to be
CLEAR_DB = 6.0  # how far a tone may be below everything that is heard with it

_FRAME_S = FRAME_MS / 1000


class Span(NamedTuple):
    """A stretch of time in seconds."""

    from_s: float
    to_s: float


@dataclass(frozen=True)
class Turn:
    """What the caller said, and when it heard an answer to it (None: not before it spoke again, or the end)."""

    said: Span
    reply_at_s: float | None
    filler_at_s: float | None = None  # of a filler before the reply

    @property
    def latency_s(self) -> float | None:
        """From the last audible sample that the caller said to the first of the reply, fillers left aside."""
        return None if self.reply_at_s is None else self.reply_at_s - self.said.to_s

    @property
    def filler_latency_s(self) -> float | None:
        """The same to the first sample of the filler."""
        return None if self.filler_at_s is None else self.filler_at_s - self.said.to_s


def audible(samples: Samples, rate: int) -> npt.NDArray[np.bool_]:
    """Say for each whole frame whether there is sound in it."""
    size = samples_per_frame(rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    loud: npt.NDArray[np.bool_] = (
        2 * np.mean(np.square(frames), axis=1) >= (FULL_SCALE * 10 ** (AUDIBLE_DBFS / 20)) ** 2
    )
    return loud


def sounds(samples: Samples, rate: int, join_s: float = JOIN_S) -> list[Span]:
    """Return where there is sound, from the first audible sample to the last; pauses below `join_s` are part of it."""
    flags = audible(samples, rate)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    spans: list[tuple[int, int]] = []
    for first, after in edges.reshape(-1, 2).tolist():
        if spans and (first - spans[-1][1]) * _FRAME_S < join_s:
            spans[-1] = (spans[-1][0], after)
        else:
            spans.append((first, after))
    size = samples_per_frame(rate)
    return [_trimmed(samples, first * size, after * size, rate) for first, after in spans]


def turns(said: Sequence[Span], heard: Sequence[Span]) -> list[Turn]:
    """Pair what was said with the replies to it, both in order.

    A reply begins after the caller's last audible sample and before the caller speaks again; a sound that was already
    there is none. When several sounds follow, the reply is the first that lasts `FILLER_S` or longer and those before
    it are fillers; when none is that long, the reply is the first.
    """
    found = []
    for number, span in enumerate(said):
        until = said[number + 1].from_s if number + 1 < len(said) else np.inf
        replies = [sound for sound in heard if span.to_s <= sound.from_s < until]
        long = next((sound for sound in replies if sound.to_s - sound.from_s >= FILLER_S), None)
        reply = long or next(iter(replies), None)
        filler = replies[0] if long is not None and replies[0] != long else None
        found.append(Turn(span, None if reply is None else reply.from_s, None if filler is None else filler.from_s))
    return found


def tone_at(samples: Samples, hz: float, rate: int, dbfs: float | None = None) -> float | None:
    """Return the second at which a tone of `hz` is first heard for `TONE_S`, by pieces of half that; None: never.

    In each piece its level has to be within `TONE_DB` of `dbfs`, or else be audible, and it must stand out: at most
    `CLEAR_DB` below everything that sounds with it.
    """
    size = round(TONE_S / 2 * rate)
    before = False
    for start in range(0, len(samples) - size + 1, size):
        piece = samples[start : start + size]
        tone = tone_level(piece, hz, rate)
        right = tone >= AUDIBLE_DBFS if dbfs is None else abs(tone - dbfs) <= TONE_DB
        right = right and tone >= level(piece) - CLEAR_DB
        if right and before:
            return (start - size) / rate
        before = right
    return None


def loudest_hz(samples: Samples, rate: int) -> float:
    """Return the strongest frequency in Hz, for messages; 0 where there is nothing."""
    if not samples.any():
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def _trimmed(samples: Samples, first: int, after: int, rate: int) -> Span:
    least = FULL_SCALE * 10 ** (AUDIBLE_DBFS / 20) / np.sqrt(2)  # an audible frame has a sample as great as this
    loud = np.flatnonzero(np.abs(samples[first:after].astype(np.int32)) >= least)
    return Span((first + int(loud[0])) / rate, (first + int(loud[-1]) + 1) / rate)
