"""What a media worker counts, and tells control once a second.

It is gathered in one go on the worker's loop, three quarters into a slot time, when the slot's work is usually done and
the next one's has not begun. What it costs grows with the streams only, by one `attrgetter` call and a few sums each:
0.6 ms for 300 of them here. The rest is a few reads and one pass over the lateness counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import ceil
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from offhook.media.admission import Gate
from offhook.media.clock import TICK_S, Clock, Lateness
from offhook.media.plane import SLOTS, Plane
from offhook.media.stream import MediaStream
from offhook.media.tidings import StreamEnded, StreamUp, Tiding, Vitals

INTERVAL_S = 1.0
WINDOW = 5  # reports: the gate judges so many seconds
MOST = 3  # of them have to be late for it to close
CALM = 2  # of the last ones, not late, for it to open again
LATENESS_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

STREAM_COUNTS: Mapping[str, str] = {  # as `MediaStream.stats` names them: where a live stream has them
    "sent": "sent",
    "dropped": "dropped",
    "received": "received",
    "stops": "stops",
    "ignored_bytes": "ignored_bytes",
    "faults": "row.faults",
    "played": "playout.played_frames",
    "skipped": "playout.skipped_frames",
    "underruns": "playout.underruns",
    "refused_bytes": "playout.refused_bytes",
}

LegFigures = Callable[[], tuple[Mapping[str, int], Mapping[str, float]]]
"""What a kind of leg counts (since the worker's start, legs that are gone included) and measures (now), by fixed names.
It is called once a second on the worker's loop, and has to be quick."""

_counts_of = attrgetter(*STREAM_COUNTS.values())
_EDGES = [0, *(round(bound / Lateness.STEP_S) for bound in LATENESS_BOUNDS_S)]  # where the buckets begin in the counts
_STEPS_S = (np.arange(10_001) + 0.5) * Lateness.STEP_S  # the middle of each count's step
_OVER_5_MS, _OVER_10_MS = (LATENESS_BOUNDS_S.index(bound) + 1 for bound in (0.005, 0.01))


class _Moment(NamedTuple):
    at: float  # loop time, s
    cpu_s: float
    ticks: tuple[int, ...]  # since the start, by lateness


class VitalSigns:
    """The counts of one worker. `note` is shown what its streams tell; `cpu` gives the CPU seconds of this process.

    After `start`, `tell` gets `Vitals` at once, and again every second.
    """

    def __init__(
        self,
        plane: Plane,
        clock: Clock,
        streams: Mapping[str, MediaStream],
        tell: Callable[[Tiding], None],
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._plane = plane
        self._clock = clock
        self._streams = streams
        self._tell = tell
        self._cpu = cpu
        self._loop = asyncio.get_running_loop()
        self._legs: list[LegFigures] = []
        self._ended: Counter[str] = Counter()  # of streams that are gone
        self._reopened = 0
        self._gate = Gate()
        self._limit = 0
        self._past: deque[_Moment] = deque(maxlen=WINDOW + 1)
        self._timer: asyncio.TimerHandle | None = None

    def add_legs(self, figures: LegFigures) -> None:
        """Tell what `figures` returns, too."""
        self._legs.append(figures)

    def note(self, tiding: Tiding) -> None:
        """Count what a stream tells."""
        match tiding:
            case StreamUp(again=True):
                self._reopened += 1
            case StreamEnded(stats=stats):
                self._ended.update(stats)

    def start(self, limit: int) -> None:
        """Begin to tell. `limit`: how many calls this worker takes."""
        self._limit = limit
        self._past.append(self._moment())
        self._report()

    def stop(self) -> None:
        """Tell no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self) -> None:
        slot_s = TICK_S / SLOTS
        due = (ceil((self._loop.time() + INTERVAL_S) / slot_s) + 0.75) * slot_s
        self._timer = self._loop.call_at(due, self._report)
        self._past.append(self._moment())
        self._tell(self._gather())

    # ------------------------------------------------------------------------------------------ gathering

    def _moment(self) -> _Moment:
        ticks = np.add.reduceat(self._clock.lateness.counts, _EDGES)
        return _Moment(self._loop.time(), self._cpu(), tuple(ticks.tolist()))

    def _gather(self) -> Vitals:
        now = self._past[-1]
        streams = list(self._streams.values())
        waiting = [stream.waiting for stream in streams]
        playout_s = [stream.playout.queued_ms / 1000 for stream in streams]
        counts, gauges = self._counts(streams), dict[str, float]()
        for figures in self._legs:
            counted, measured = figures()
            counts |= counted
            gauges |= measured
        return Vitals(
            pid=os.getpid(),
            calls=sum(len(slot.calls) for slot in self._plane.slots),
            rows=sum(slot.rows for slot in self._plane.slots),
            streams=len(streams),
            streams_up=sum(stream.is_up for stream in streams),
            ticks_late=now.ticks,
            late_s=float((self._clock.lateness.counts * _STEPS_S).sum()),
            ticks_jumped=self._clock.jumped,
            cpu_s=now.cpu_s,
            core_share=_share(self._past[-2], now),
            send_queue=sum(waiting),
            send_queue_max=max(waiting, default=0),
            playout_s=sum(playout_s),
            playout_max_s=max(playout_s, default=0.0),
            counts=counts,
            gauges=gauges,
            limit=self._limit,
            gate_open=self._judge(),
        )

    def _counts(self, streams: Sequence[MediaStream]) -> dict[str, int]:
        """Return the sums over all streams, those that are gone included: no count ever goes down."""
        total = Counter(dict.fromkeys(STREAM_COUNTS, 0))
        total.update(self._ended)
        for name, column in zip(STREAM_COUNTS, zip(*map(_counts_of, streams), strict=True), strict=False):
            total[name] += sum(column)
        for stream in streams:
            for cause, count in stream.oddities.items():
                total[f"odd: {cause}"] += count
        return {**total, "reopened": self._reopened}

    def _judge(self) -> bool:
        """Ask the gate about the last seconds. Not most of them late: something held everything up for a moment, as a
        machine that does something else, which says nothing about how many calls there is room for."""
        late = [_late(then, now) for then, now in pairwise(self._past)]
        over_10_ms = sorted((share for share, _ in late), reverse=True)
        over_5_ms = max((share for _, share in late[-CALM:]), default=0.0)
        close = over_10_ms[MOST - 1] if len(late) >= MOST else 0.0
        return self._gate.judge(_share(self._past[0], self._past[-1]), close, over_5_ms)


def _share(then: _Moment, now: _Moment) -> float:
    """Return what share of one core the process used between the two."""
    return (now.cpu_s - then.cpu_s) / (now.at - then.at) if now.at > then.at else 0.0


def _late(then: _Moment, now: _Moment) -> tuple[float, float]:
    """Return what shares of the ticks between the two began more than 10 and more than 5 ms late."""
    ticks = [after - before for before, after in zip(then.ticks, now.ticks, strict=True)]
    total = sum(ticks) or 1
    return sum(ticks[_OVER_10_MS:]) / total, sum(ticks[_OVER_5_MS:]) / total
