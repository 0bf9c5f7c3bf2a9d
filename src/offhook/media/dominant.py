"""Which participants an unmixed stream carries when there are more than it may carry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SPEAKERS = 4  # an unmixed stream carries at most so many participants (contract 4.2)


class Dominant:
    """Chooses the `SPEAKERS` loudest of more than that many participants, by energy over 200 ms.

    Once chosen, a speaker stays for at least 1 s, so that a stream does not flicker between equally loud ones; in the
    first 200 ms, when there is little to judge by, the choice is still free.
    """

    WINDOW = 10  # ticks: 200 ms
    HOLD = 50  # ticks: 1 s

    def __init__(self, speakers: Sequence[int], lines: Sequence[int]) -> None:
        """`speakers`: the rows' identities; `lines`: where each stands in the frames given to `listen`."""
        self.speakers = list(speakers)
        self.lines = np.array(lines)
        self.energy = np.zeros((self.WINDOW, len(speakers)), np.float32)
        self.ticks = 0
        self.chosen: dict[int, int] = {}  # speaker → tick from which it may be replaced

    def listen(self, frames: npt.NDArray[np.int16]) -> None:
        """Take this tick's frames of the mix, (lines, samples)."""
        self.energy[self.ticks % self.WINDOW] = np.square(frames[self.lines], dtype=np.float32).mean(axis=1)
        self.ticks += 1
        by_energy = np.argsort(-self.energy.sum(axis=0), kind="stable").tolist()
        ranking = [self.speakers[i] for i in by_energy]
        loudest = ranking[:SPEAKERS]
        hold = self.HOLD if self.ticks > self.WINDOW else 0
        for challenger in loudest:
            if challenger in self.chosen:
                continue
            if len(self.chosen) >= SPEAKERS:
                replaceable = [s for s, until in self.chosen.items() if until <= self.ticks and s not in loudest]
                if not replaceable:
                    return
                del self.chosen[max(replaceable, key=ranking.index)]
            self.chosen[challenger] = self.ticks + hold

    def sends(self, speaker: int) -> bool:
        """Whether this speaker is among the chosen in this tick."""
        return speaker in self.chosen

    def remember(self, other: Dominant) -> None:
        """Go on where `other`, which chose for the same hearer, stood; speakers may have come or gone since."""
        self.ticks = other.ticks
        self.chosen = {speaker: until for speaker, until in other.chosen.items() if speaker in self.speakers}
        for i, speaker in enumerate(self.speakers):
            if speaker in other.speakers:
                self.energy[:, i] = other.energy[:, other.speakers.index(speaker)]
