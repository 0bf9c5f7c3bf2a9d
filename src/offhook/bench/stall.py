"""The run `stall`: a live app stops for a while and comes back, among other calls, and while a reply is being played.

What is asked: is the round-trip delay of the app's own calls back where it was 1 s later, are other calls left alone,
and does a reply that was sent ahead of real time come whole?
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from offhook.bench import app, machine, report
from offhook.bench.app import Ports
from offhook.bench.calls import Listener, Probe, callers, drained, media_worker, trips_ms
from offhook.bench.figures import Late, Trips, Window, trips
from offhook.bench.frames import numbered_frames
from offhook.bench.plan import Plan
from offhook.bench.processes import run as run_process
from offhook.bench.processes import running
from offhook.bench.report import Line

RATE = 24_000
SHORT_S = 0.2
LENGTHS_S = (SHORT_S, 2.0)  # how long the app stops
STALLED = 2  # calls of that app
REPLY_AHEAD_S = 0.5  # so long before the stall a reply begins
AFTER_S = 1.0  # when the delay shall be back …
LOOK_S = 0.5  # … and for how long it is looked at
REPLY_S = 10.0  # for the reply to be heard to its end, after the stall

TOTAL = ("others_lost", "reply_frames", "reply_lost")
SPREAD = ("before_ms", "after_ms", "later_ms")
MIDDLE = ("others_late_before_ms", "others_late_after_ms", "others_rtt_before_ms", "others_rtt_after_ms")


class Job(msgspec.Struct, frozen=True):
    """`calls` to the app at `other`, and a few to the one at `stalled`, which stops for `stall_s` after `live_s`."""

    stalled: Ports
    other: Ports
    rate: int
    calls: int
    stall_s: float
    live_s: float


class Stall(msgspec.Struct, frozen=True):
    """Round trips of the stalled app's calls, p50: `before_ms`, in the second before; `after_ms`, from 1 s to 1.5 s
    after. What the others saw, from then on and before. `reply_lost`: frames that were not heard, or out of order."""

    before_ms: float
    after_ms: float
    others_late_before_ms: Late
    others_late_after_ms: Late
    others_rtt_before_ms: Trips
    others_rtt_after_ms: Trips
    others_lost: int
    reply_frames: int
    reply_lost: int


def play(job: Job) -> Stall:
    """Raise `NoStream` when a stream is not there all the time."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Stall:
    frames = numbered_frames(job.rate)
    probes = [Probe(frames) for _ in range(STALLED)]
    other_probes, others = callers(job.rate, job.calls)
    reply = Listener(frames, app.REPLY_FRAMES)
    async with media_worker() as calls:
        await calls.open_all(others, job.other.url(), job.rate)
        await calls.open_all(probes, job.stalled.url(), job.rate)
        clock = calls.worker.clock
        window = Window(clock, job.other.pid)
        await asyncio.sleep(job.live_s)
        await calls.open(reply, job.stalled.url(path=app.REPLY), job.rate)
        await asyncio.sleep(REPLY_AHEAD_S)
        before, stalled = window.end(), time.monotonic()
        after_window = Window(clock, job.other.pid)
        await _stop(job.stalled.pid, job.stall_s)
        resumed = time.monotonic()
        await asyncio.sleep(AFTER_S + LOOK_S)
        with suppress(TimeoutError):  # Then frames are missing.
            async with asyncio.timeout(REPLY_S):
                await reply.heard_all.wait()
        ended, after = time.monotonic(), after_window.end()
        others_lost = await drained(others)
    return Stall(
        before_ms=trips(trips_ms(probes, stalled - 1, stalled)).p50,
        after_ms=trips(trips_ms(probes, resumed + AFTER_S, resumed + AFTER_S + LOOK_S)).p50,
        others_late_before_ms=before.late_ms,
        others_late_after_ms=after.late_ms,
        others_rtt_before_ms=trips(trips_ms(other_probes, stalled - job.live_s, stalled)),
        others_rtt_after_ms=trips(trips_ms(other_probes, stalled, ended)),
        others_lost=others_lost,
        reply_frames=app.REPLY_FRAMES,
        reply_lost=missing(reply.numbers, app.REPLY_FRAMES),
    )


async def _stop(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def missing(numbers: Iterable[int], count: int) -> int:
    """Return how many of the frames 1 to `count` were not heard, or only after a later one."""
    latest = in_order = 0
    for number in numbers:
        if number > latest:
            latest, in_order = number, in_order + 1
    return count - in_order


def once(rate: int, calls: int, stall_s: float, live_s: float) -> Stall:
    """Stall an app of its own once, for `stall_s`, with `calls` others beside it. Raise `BenchError`."""
    with running(app.Job(rate), Ports) as stalled, running(app.Job(rate), Ports) as other:
        job = Job(stalled, other, rate, calls, stall_s, live_s)
        return run_process(job, Stall, live_s + stall_s + REPLY_S + Plan(calls, 0, 0).run_s)


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round and length of stall, and a summary of each length last. Raise `BenchError`."""
    lines: dict[float, list[Line]] = {stall_s: [] for stall_s in LENGTHS_S}
    for _ in range(plan.rounds):
        for stall_s, done in lines.items():
            watch = machine.Watch()
            one = once(RATE, plan.calls, stall_s, plan.live_s)
            later = one.after_ms - one.before_ms
            done.append(report.line(watch.end(), stall_s=stall_s, later_ms=later, **msgspec.structs.asdict(one)))
            yield done[-1]
    for stall_s, done in lines.items():
        yield {"stall_s": stall_s, **report.summary(done, spread=SPREAD, middle=MIDDLE, total=TOTAL)}
