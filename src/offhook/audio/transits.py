"""How late the packets of the last seconds were, and what lag of the playout that needs: see `offhook.audio.jitter`."""

from __future__ import annotations

from collections import deque

from offhook.audio.decoding import UNITS_PER_MS

MOST_LAG = 200 * UNITS_PER_MS  # the goal is never further above the fastest transit
REMEMBERED = 250  # ticks with packets, 5 s at one packet a tick
OUTLIERS = 100  # one in so many is not waited for: a stall is one of them, however long it was
REVIEW = 10  # such ticks between two looks at the goal


class Transits:
    """The transit of the slowest packet of each tick that had any, of the last `REMEMBERED` such ticks."""

    def __init__(self) -> None:
        self.goal = 0  # the lag that is needed, units
        self.fastest = 0  # the least transit that is remembered, units
        self._slowest: deque[int] = deque(maxlen=REMEMBERED)
        self._until_review = 1

    def add(self, transit: int, ticks: int = 1) -> None:
        """Remember it of each of so many ticks; now and then, look what lag is needed."""
        while ticks:
            alike = min(ticks, self._until_review)
            ticks -= alike
            self._until_review -= alike
            self._slowest.extend([transit] * alike)
            if self._until_review:
                return
            self._until_review = REVIEW if len(self._slowest) >= REVIEW else 1
            if ticks >= self._until_review:  # The next look is all that counts.
                continue
            ordered = sorted(self._slowest)
            self.fastest = ordered[0]
            self.goal = min(ordered[-1 - len(ordered) // OUTLIERS], ordered[0] + MOST_LAG)
