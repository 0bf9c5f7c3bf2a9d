"""The figures that several runs have in common."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from offhook.bench import machine
from offhook.media.clock import Clock, Lateness


class NoStream(ConnectionError):
    """A stream did not come up, went down during a run, or nothing came back on it."""


class Late(msgspec.Struct, frozen=True):
    """How late slot ticks began, in milliseconds; `max` ends at 1000."""

    p50: float
    p99: float
    max: float


class Trips(msgspec.Struct, frozen=True):
    """From saying a frame to hearing it back, in milliseconds."""

    p50: float
    p99: float


class Cost(msgspec.Struct, frozen=True):
    """CPU time of user and system in a measured time of `seconds`: ours, and the app's (in steps of 10 ms)."""

    seconds: float
    cpu_s: float
    app_cpu_s: float
    late_ms: Late


class Window:
    """A measured time, from when it is made: what this process, which has `clock`, and the app cost, and how late it
    was."""

    def __init__(self, clock: Clock, app_pid: int) -> None:
        self._clock, self._app_pid = clock, app_pid
        self._ticks = clock.lateness.counts.copy()
        self.began = time.monotonic()
        self._cpu_s, self._app_cpu_s = machine.own_cpu_s(), machine.cpu_s(app_pid)

    def end(self) -> Cost:
        lateness = Lateness()
        lateness.counts = self._clock.lateness.counts - self._ticks
        return Cost(
            seconds=time.monotonic() - self.began,
            cpu_s=machine.own_cpu_s() - self._cpu_s,
            app_cpu_s=machine.cpu_s(self._app_pid) - self._app_cpu_s,
            late_ms=late(lateness),
        )


def late(lateness: Lateness) -> Late:
    """Return what is told of a histogram."""
    return Late(*(lateness.percentile(share) for share in (0.5, 0.99, 1)))


def trips(took_ms: Sequence[float]) -> Trips:
    """Return what is told of some round trips; raise `NoStream` when there are none, as no frame came back."""
    if not took_ms:
        raise NoStream("no frame of a caller came back from the app")
    return Trips(*(float(value) for value in np.percentile(took_ms, (50, 99))))
