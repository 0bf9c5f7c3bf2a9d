"""The run `soak`: many calls for long, of which one ends and another begins each second; is anything left behind?"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator

import msgspec

from offhook.bench import app, machine, report
from offhook.bench.app import Ports
from offhook.bench.calls import Caller, Calls, drained, media_worker
from offhook.bench.figures import Late, Window
from offhook.bench.frames import numbered_frames
from offhook.bench.plan import Plan
from offhook.bench.processes import run as run_process
from offhook.bench.processes import running
from offhook.bench.report import Line

RATE = 24_000
TURN_S = 1.0  # every so often, one call ends and another begins
CALM_S = 3.0  # without turnover before a look, but no longer than the run: sockets close
SPREAD = ("rss_growth_percent",)
TOTAL = ("turned", "frames_lost", "descriptors_growth", "tasks_growth")


class Job(msgspec.Struct, frozen=True):
    """`calls` for `seconds`."""

    app: Ports
    rate: int
    calls: int
    seconds: float


class Held(msgspec.Struct, frozen=True):
    """What a process holds: resident memory, descriptors, asyncio tasks."""

    rss_kib: int
    descriptors: int
    tasks: int


class Soak(msgspec.Struct, frozen=True):
    """At the start and at the end; `turned` calls ended in between. `frames_lost`: said and not heard back."""

    start: Held
    end: Held
    turned: int
    frames_lost: int
    late_ms: Late


def play(job: Job) -> Soak:
    """Raise `NoStream` when a stream is not there as long as its call."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Soak:
    frames = numbered_frames(job.rate)
    async with media_worker() as calls:
        turnover = _Turnover(calls, job, frames)
        await turnover.fill()
        # Memory pools fill up until every call has been replaced once: none of that counts.
        await turnover.turn(min(job.calls * TURN_S, job.seconds / 3))
        start, before = await _held(job), turnover.turned
        window = Window(calls.worker.clock, job.app.pid)
        await turnover.turn(job.seconds)
        late, end = window.end().late_ms, await _held(job)
        lost = await turnover.end()
    return Soak(start, end, turnover.turned - before, lost, late)


async def _held(job: Job) -> Held:
    await asyncio.sleep(min(CALM_S, job.seconds))
    return Held(machine.rss_kib(), machine.descriptors(), len(asyncio.all_tasks()))


class _Turnover:
    """Keeps the number of calls while they come and go, the oldest first."""

    def __init__(self, calls: Calls, job: Job, frames: list[bytes]) -> None:
        self._calls, self._job, self._frames = calls, job, frames
        self._live: deque[tuple[str, Caller]] = deque()
        self._lost = 0
        self.turned = 0

    async def fill(self) -> None:
        while len(self._live) < self._job.calls:
            caller = Caller(self._frames)
            self._live.append((await self._calls.open(caller, self._job.app.url(), self._job.rate), caller))

    async def turn(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _, oldest = self._live[0]
            oldest.speaks = False
            await asyncio.sleep(TURN_S)
            stream, _ = self._live.popleft()
            self._lost += oldest.said - oldest.heard
            self._calls.close(stream)
            self.turned += 1
            await self.fill()

    async def end(self) -> int:
        """Let all fall silent; return how many frames were lost by any call."""
        return self._lost + await drained([caller for _, caller in self._live])


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round, and the summary last. Raise `BenchError`."""
    rounds = []
    for _ in range(plan.rounds):
        watch = machine.Watch()
        with running(app.Job(RATE), Ports) as ports:
            one = run_process(Job(ports, RATE, plan.calls, plan.seconds), Soak, plan.seconds / 3 + plan.run_s)
        rounds.append(
            report.line(
                watch.end(),
                rss_growth_percent=100 * (one.end.rss_kib / one.start.rss_kib - 1),
                descriptors_growth=one.end.descriptors - one.start.descriptors,
                tasks_growth=one.end.tasks - one.start.tasks,
                **msgspec.structs.asdict(one),
            )
        )
        yield rounds[-1]
    yield report.summary(rounds, spread=SPREAD, middle=("start", "end", "late_ms"), total=TOTAL)
