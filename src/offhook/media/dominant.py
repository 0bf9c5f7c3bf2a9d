"""Which participants an unmixed stream carries when there are more than it may carry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SPEAKERS = 4  # an unmixed stream carries at most so many participants (contract 4.2)


class Dominant:
    """Chooses the `SPEAKERS` loudest of more than that many participants, by energy over 200 ms.

    Once chosen, a speaker stays for at least 1 s, so that a stream does not flicker between equally loud ones.
    """

    WINDOW = 10  # ticks: 200 ms
    HOLD = 50  # ticks: 1 s

    def __init__(self, speakers: Sequence[int], lines: Sequence[int]) -> None:
        """`speakers`: the rows' identities; `lines`: where each stands in the frames given to `listen`."""
        self.speakers = list(speakers)
        self.lines = np.array(lines)
        self.energy = np.zeros((self.WINDOW, len(speakers)), np.float32)
        self.ticks = 0
        self.chosen: dict[int, int] = {}  # index of the speaker → tick from which it may be replaced

    def listen(self, frames: npt.NDArray[np.int16]) -> None:
        """Take this tick's frames of the mix, (lines, samples)."""
        loudness = np.square(frames[self.lines], dtype=np.float32).mean(axis=1)
        self.energy[self.ticks % self.WINDOW] = loudness
        self.ticks += 1
        ranking = np.argsort(-self.energy.sum(axis=0), kind="stable")[:SPEAKERS].tolist()
        for challenger in ranking:
            if challenger in self.chosen:
                continue
            if len(self.chosen) >= SPEAKERS:
                replaceable = [i for i, until in self.chosen.items() if until <= self.ticks and i not in ranking]
                if not replaceable:
                    continue
                del self.chosen[replaceable[0]]
            self.chosen[challenger] = self.ticks + self.HOLD

    def sends(self, speaker: int) -> bool:
        """Whether this speaker is among the chosen in this tick."""
        return any(self.speakers[i] == speaker for i in self.chosen)

    def remember(self, other: Dominant) -> None:
        """Go on where `other`, which had the same speakers, stood."""
        self.energy, self.ticks, self.chosen = other.energy, other.ticks, other.chosen
