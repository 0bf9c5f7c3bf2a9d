"""The 20 ms clock of a media worker: ticks each slot of the plane at its own absolute deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil

import numpy as np

from offhook.media.timer import Timer, precise_timer

TICK_S = 0.020
CATCH_UP = 5  # ticks; a clock that is later than this jumps instead of running after its deadlines


class Lateness:
    """How late ticks start, as a histogram of 0.1 ms steps up to 1 s (later ones count as 1 s)."""

    STEP_S = 0.0001

    def __init__(self) -> None:
        self.counts = np.zeros(10_001, np.int64)

    def add(self, seconds: float) -> None:
        self.counts[min(int(seconds / self.STEP_S), 10_000)] += 1

    def percentile(self, share: float) -> float:
        """Return the lateness in milliseconds that `share` (0..1) of all ticks did not exceed; 0 if there were none."""
        total = int(self.counts.sum())
        if total == 0:
            return 0.0
        step = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return step * self.STEP_S * 1000


class Clock:
    """Calls `tick(slot, due)` for each of `slots` slots in turn, every slot once in 20 ms, at `due` in loop time.

    Step n is due at n × 20 ms / slots of loop time and belongs to slot n mod slots: deadlines are absolute, so lateness
    does not add up, and a call's timestamps are whole ticks apart. A slot that is not `busy(slot)` is not ticked, nor
    woken up for: waking up costs as much as a dozen calls. A clock that was held up catches up tick by tick, up to
    `CATCH_UP` of them; after a longer stop it jumps ahead by whole ticks, counted in `jumped`. While no slot is busy it
    sleeps, and `wake` starts it again. A tick that raises goes to the loop's exception handler; the clock goes on.
    """

    def __init__(self, tick: Callable[[int, float], None], slots: int, busy: Callable[[int], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._call_at = precise_timer(self._loop)
        self._tick = tick
        self._slots = slots
        self._busy = busy
        self._timer: Timer | None = None
        self._step = 0  # the next one
        self._turned = -1  # the last one that had its turn
        self.jumped = 0  # ticks left out
        self.lateness = Lateness()

    def wake(self) -> None:
        """Tick what is busy now, from its next turn on."""
        step = self._next(max(ceil(self._loop.time() * self._slots / TICK_S), self._turned + 1))
        if step is not None and (self._timer is None or step < self._step):
            self._plan(step)

    def stop(self) -> None:
        """Sleep until `wake`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self, step: int) -> int | None:
        """Return the first step from `step` on whose slot is busy."""
        return next((n for n in range(step, step + self._slots) if self._busy(n % self._slots)), None)

    def _plan(self, step: int | None) -> None:
        if step is None:
            self.stop()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._step = step
        self._timer = self._call_at(self._due(), self._run)

    def _due(self) -> float:
        return self._step * TICK_S / self._slots

    def _run(self) -> None:
        self._timer = None  # It has fired.
        due = self._due()
        late = self._loop.time() - due
        if late > CATCH_UP * TICK_S:
            skipped = int(late / TICK_S)
            self.jumped += skipped
            self._step += skipped * self._slots
            due = self._due()
        self._turned = self._step
        slot = self._step % self._slots
        busy = self._busy(slot)
        self._plan(self._next(self._step + 1))  # First: a tick that raises must not stop the clock.
        if busy:
            self.lateness.add(max(late, 0.0))
            self._tick(slot, due)
