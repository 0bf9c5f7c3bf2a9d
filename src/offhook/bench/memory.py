"""The run `memory`: what a call costs in resident memory beyond the first ones, over ws and over wss."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from offhook.bench import machine, report, topology
from offhook.bench.app import Ports
from offhook.bench.calls import Caller, media_worker
from offhook.bench.frames import numbered_frames
from offhook.bench.plan import Plan
from offhook.bench.processes import run as run_process
from offhook.bench.report import Line
from offhook.bench.topology import Topology

RATE = 24_000
FIRST = 50  # calls that are not counted: what the first ones bring in is used by all


class Job(msgspec.Struct, frozen=True):
    """`calls` in all; memory is looked at `settle_s` after the first ones are up, and after all are."""

    app: Ports
    rate: int
    calls: int
    settle_s: float
    ca: str | None


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of a worker, in KiB."""

    first_kib: int
    all_kib: int
    kib_per_call: float


def play(job: Job) -> Memory:
    """Raise `NoStream` when a stream is not there all the time."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Memory:
    frames = numbered_frames(job.rate)
    first = min(FIRST, job.calls // 2)
    url = job.app.url(secure=job.ca is not None)
    async with media_worker(job.ca) as calls:
        seen: list[int] = []
        for count in (first, job.calls - first):
            await calls.open_all([Caller(frames) for _ in range(count)], url, job.rate)
            await asyncio.sleep(job.settle_s)
            seen.append(machine.rss_kib())
    return Memory(seen[0], seen[1], kib_per_call=(seen[1] - seen[0]) / (job.calls - first))


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round, ws and wss, and a summary of each last. Raise `BenchError`."""
    lines: dict[bool, list[Line]] = {False: [], True: []}
    for _ in range(plan.rounds):
        for secure, done in lines.items():
            watch = machine.Watch()
            with topology.apps(Topology(RATE, secure), 1) as at:
                job = Job(at.ports[0], RATE, plan.calls, plan.settle_s, at.ca)
                one = run_process(job, Memory, plan.settle_s + plan.run_s)
            done.append(report.line(watch.end(), secure=secure, **msgspec.structs.asdict(one)))
            yield done[-1]
    for secure, done in lines.items():
        yield {"secure": secure, **report.summary(done, spread=("kib_per_call",), middle=("first_kib", "all_kib"))}
