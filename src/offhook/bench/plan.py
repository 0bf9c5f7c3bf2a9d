"""How much of a run is wanted."""

from __future__ import annotations

from dataclasses import dataclass

MAX_CALLS = 4000
MAX_SECONDS = 3600.0
MAX_ROUNDS = 100
MAX_WORKERS = 64
OPENING_S = 0.05  # for each call, on a slow machine


@dataclass(frozen=True)
class Plan:
    """`calls` at the same time over all `workers`; `rounds`, in each of which `seconds` are measured after `settle_s`
    of the same load.

    `live_s` is how long streams go before something happens to their app, or after it has: one is live after 5 s,
    and buffers hold less.
    """

    calls: int
    seconds: float
    rounds: int
    workers: int = 1
    settle_s: float = 1.0
    live_s: float = 6.0

    @property
    def run_s(self) -> float:
        """What one run should take at the most, in seconds."""
        return self.settle_s + self.seconds + OPENING_S * self.calls
