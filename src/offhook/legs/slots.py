"""Which slot of the plane's clock is ticked right after a sender's packets arrive.

A packet waits in the socket until its row is ticked: up to 20 ms by bad luck, up to `TICK_S / SLOTS` and a margin in
the right slot. Two clocks drift apart, 1 ms in 20 s at 50 ppm, so the right slot does not stay right.
"""

from __future__ import annotations

from collections.abc import Sequence

from offhook.media.clock import TICK_S
from offhook.media.plane import SLOTS

MARGIN_S = 0.004  # a packet this much later than usual is still in time
TOO_CLOSE_S = 0.0025  # a slot is left when packets arrive so shortly before it …
TOO_LONG_S = 0.011  # … or wait so long
SPREAD_S = 0.006  # arrivals farther apart have no phase: packets of another length, or a lot of jitter


def arrival_phase(arrivals: Sequence[float]) -> float | None:
    """Return when, in seconds into each 20 ms of loop time, packets arrive: later than most, but not than an odd one.

    None when that cannot be told.
    """
    if len(arrivals) < 2:
        return None
    first = arrivals[0]
    half = TICK_S / 2
    offsets = sorted((arrival - first + half) % TICK_S - half for arrival in arrivals)
    usual = offsets[: -(len(offsets) // 4) or None]
    if usual[-1] - usual[0] > SPREAD_S:
        return None
    return (first + usual[-1]) % TICK_S


def wait(slot: int, phase: float) -> float:
    """Return how long packets that arrive at `phase` wait for `slot`, in seconds."""
    return (slot * TICK_S / SLOTS - phase) % TICK_S


def best_slot(phase: float, current: int | None) -> int:
    """Return the slot for packets that arrive at `phase`: the `current` one as long as it is not clearly wrong."""
    if current is not None and TOO_CLOSE_S <= wait(current, phase) <= TOO_LONG_S:
        return current
    return min(range(SLOTS), key=lambda slot: wait(slot, phase + MARGIN_S))
