"""The run `sip`: telephones that call one after the other, by real SIP: does each call come about, what does its
signalling cost, and is anything left behind?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec

from offhook.bench import app, machine, report, sip_stack, sipp
from offhook.bench.app import Ports
from offhook.bench.control import Control, Held, control, late
from offhook.bench.figures import Late
from offhook.bench.plan import Plan
from offhook.bench.processes import OVERHEAD_S, running
from offhook.bench.processes import run as run_process
from offhook.bench.report import Line

RATE = 16_000
LINGER_S = 40.0  # after the last call, for its transactions to end (64 × T1 = 32 s) and for idle connections to close
IDLE_S = 5.0  # in which is seen what a server costs that does nothing
GROWTHS = ("calls", "sessions", "transactions", "tasks", "descriptors", "rtp_sockets", "worker_descriptors")
TOTAL = ("placed", "answered", "failed", "refused", *(f"{name}_growth" for name in GROWTHS))
SPREAD = (
    "control_cpu_ms_per_call",
    "stack_cpu_ms_per_call",
    "setup_ms",
    "rss_growth_percent",
    "worker_rss_growth_percent",
)
MIDDLE = ("late_ms", "before", "after")


class Job(msgspec.Struct, frozen=True):
    """`calls` in all, each of so many `seconds`; what is left is looked at `linger_s` after the last one, or before
    when nothing is."""

    app: Ports
    calls: int
    seconds: float
    linger_s: float


class Sip(msgspec.Struct, frozen=True):
    """What came of it, and what was held before and after. `refused`: of the failed calls, those for which there was no
    room. `control_cpu_ms_per_call`: of the control process, for SIP, the events and the REST request of one call
    together, less what it costs to be idle."""

    placed: int
    answered: int
    failed: int
    refused: int
    setup_ms: float
    control_cpu_ms_per_call: float
    late_ms: Late
    before: Held
    after: Held


def play(job: Job) -> Sip:
    """Raise OSError when the server or sipp does not start."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Sip:
    async with control(job.app) as at:
        # As many as there are at once later, transactions that linger included: memory pools fill up.
        await sipp.place(at.sip_port, min(job.calls, round(sipp.RATE * (job.seconds + job.linger_s))), job.seconds)
        await _quiet(at, job.linger_s)
        began, cpu_s = time.monotonic(), machine.own_cpu_s()
        await asyncio.sleep(min(IDLE_S, job.linger_s))
        idle = (machine.own_cpu_s() - cpu_s) / (time.monotonic() - began)
        before, vitals = at.held(), await at.vitals()
        began, cpu_s, refused = time.monotonic(), machine.own_cpu_s(), at.refused
        placed = await sipp.place(at.sip_port, job.calls, job.seconds)
        lateness = late(vitals, await at.vitals())
        await _quiet(at, job.linger_s)
        cpu_s = machine.own_cpu_s() - cpu_s - idle * (time.monotonic() - began)
        return Sip(
            placed.placed,
            placed.answered,
            placed.failed,
            at.refused - refused,
            placed.setup_ms,
            1000 * cpu_s / job.calls,
            lateness,
            before,
            at.held(),
        )


async def _quiet(at: Control, seconds: float) -> None:
    """Wait until no transaction is left, and for as long again as what depends on that may take."""
    deadline = time.monotonic() + seconds
    while at.sip.transactions and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.1)
    await asyncio.sleep(max(min(deadline - time.monotonic(), 1.0), 0.0))


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round, and the summary last. Raise `BenchError`, also without sipp."""
    sipp.check()
    rounds = []
    each_s = plan.calls / sipp.RATE + plan.seconds + LINGER_S + OVERHEAD_S
    for _ in range(plan.rounds):
        watch = machine.Watch()
        with running(app.Job(RATE), Ports) as ports:
            one = run_process(Job(ports, plan.calls, plan.seconds, LINGER_S), Sip, 2 * each_s + IDLE_S)
        alone = run_process(sip_stack.Job(plan.calls), sip_stack.Alone, each_s)
        rounds.append(
            report.line(
                watch.end(),
                **msgspec.structs.asdict(one),
                stack_cpu_ms_per_call=alone.cpu_ms_per_call,
                rss_growth_percent=100 * (one.after.rss_kib / one.before.rss_kib - 1),
                worker_rss_growth_percent=100 * (one.after.worker_rss_kib / one.before.worker_rss_kib - 1),
                **{f"{name}_growth": getattr(one.after, name) - getattr(one.before, name) for name in GROWTHS},
            )
        )
        yield rounds[-1]
    yield report.summary(rounds, spread=SPREAD, middle=MIDDLE, total=TOTAL)
