"""Whose turn it is to speak, from nothing but how loud the other side is: enough for a demo, not for a product."""

from __future__ import annotations

from enum import Enum, auto

import numpy as np

# A telephone's background noise stays below this, a word does not.
SPEECH_DBFS = -40.0
BEGINS_S = 0.06  # this long above it is speech, not a click
ENDS_S = 0.7  # this long below it is the end of what is said, not a breath


class Turn(Enum):
    """What has just become clear."""

    HEARD = auto()  # the other side has begun to speak
    INTERRUPTED = auto()  # the same, while we speak
    ENDED = auto()  # the other side has finished its sentence


class TurnTaker:
    """Follows one conversation by the audio of the other side, whose frames are also its clock.

    Feed it every frame, silence too, and tell it when you speak: what is sent ahead of real time is heard for as long
    as it lasts.
    """

    def __init__(self, rate: int, ends_s: float = ENDS_S) -> None:
        """`ends_s`: seconds of quiet after which the other side has finished."""
        self._rate = rate
        self._ends_s = ends_s
        self._listening = False  # to a sentence that has begun
        self._run_s = 0.0  # how long it has been otherwise: loud while we wait, quiet while we listen
        self._speaking_s = 0.0  # of our own audio still to be heard

    @property
    def speaking(self) -> bool:
        """Some of what we said is still to be heard."""
        return self._speaking_s > 0

    def say(self, samples: int) -> None:
        """We have just sent this much; it is played after what was sent before."""
        self._speaking_s += samples / self._rate

    def stop(self) -> None:
        """What we sent has been discarded."""
        self._speaking_s = 0.0

    def hear(self, pcm: bytes) -> Turn | None:
        """The next frame of the other side: mono s16le."""
        samples = np.frombuffer(pcm, "<i2")
        seconds = len(samples) / self._rate
        self._speaking_s = max(0.0, self._speaking_s - seconds)
        self._run_s = self._run_s + seconds if _loud(samples) is not self._listening else 0.0
        if self._run_s < (self._ends_s if self._listening else BEGINS_S) - seconds / 2:
            return None
        self._listening = not self._listening
        self._run_s = 0.0
        if not self._listening:
            return Turn.ENDED
        return Turn.INTERRUPTED if self.speaking else Turn.HEARD


def _loud(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> bool:
    if not len(samples):
        return False
    return bool(np.sqrt(np.mean(samples.astype(np.float64) ** 2)) > 32_768 * 10 ** (SPEECH_DBFS / 20))
