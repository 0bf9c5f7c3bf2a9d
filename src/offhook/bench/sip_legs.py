"""The run `sip16`: the work of `rtp16` with telephones that have called by real SIP, against `rtp16` itself.

A whole server answers sipp's calls, whose audio comes from the telephones of `rtp_peer`; so what is compared is a leg
whose port, codec and address were agreed on in SDP with one that was told them, and a worker with a control process
beside it with a worker alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec

from offhook.bench import machine, report, sipp
from offhook.bench.app import Ports
from offhook.bench.control import VITALS_S, Control, control, late
from offhook.bench.figures import Late, NoStream, Trips
from offhook.bench.load import OverRtp
from offhook.bench.plan import Plan
from offhook.bench.processes import run as run_process
from offhook.bench.report import Line
from offhook.bench.rtp_peer import telephones
from offhook.bench.topology import Topology, apps, measure

TOPOLOGY = Topology(16_000, rtp=True)
STAND_S = 5.0  # for the last call to stream, once it was placed
SPREAD = ("cpu_ms_per_call_s", "plain_cpu_ms_per_call_s", "cost_ratio")
MIDDLE = ("control_cpu_ms_per_call_s", "late_ms", "plain_late_ms", "rtt_ms", "plain_rtt_ms", "load_cpu_ms_per_call_s")
TOTAL = ("frames_expected", "frames_lost", "plain_frames_lost")


class Job(msgspec.Struct, frozen=True):
    """`calls` at the same time, measured for `seconds` after `settle_s` of the same load; all are to stream `stand_s`
    after the last one was placed."""

    app: Ports
    calls: int
    seconds: float
    settle_s: float
    stand_s: float

    @property
    def placing_s(self) -> float:
        """For all calls to be placed."""
        return self.calls / sipp.RATE

    @property
    def up_s(self) -> float:
        """How long a call lasts: the first one until the last one was measured."""
        return self.placing_s + self.stand_s + self.settle_s + self.seconds + VITALS_S


class SipLegs(msgspec.Struct, frozen=True):
    """As `product.Product`; the CPU time is that of worker and control together, and of control alone."""

    cpu_ms_per_call_s: float
    control_cpu_ms_per_call_s: float
    load_cpu_ms_per_call_s: float
    late_ms: Late
    rtt_ms: Trips
    frames_expected: int
    frames_lost: int


def play(job: Job) -> SipLegs:
    """Raise OSError when the server does not start, or `NoStream` when a call does not come about or last."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> SipLegs:
    async with telephones(job.calls) as phones, control(job.app) as at:
        parties = OverRtp(phones)
        placing = asyncio.create_task(sipp.place(at.sip_port, job.calls, job.up_s, phones.ports))
        try:
            await _all_up(at, job)
            await asyncio.sleep(job.settle_s)
            before = await at.vitals()
            began, control_s = time.monotonic(), machine.own_cpu_s()
            await parties.begin()
            await asyncio.sleep(job.seconds)
            after = await at.vitals()
            call_seconds, control_s = job.calls * (time.monotonic() - began), machine.own_cpu_s() - control_s
            said = await parties.end()
            placed = await placing
        finally:
            placing.cancel()
    if placed.failed:
        raise NoStream(f"{placed.failed} of {placed.placed} calls failed")
    return SipLegs(
        cpu_ms_per_call_s=1000 * (after.cpu_s - before.cpu_s + control_s) / call_seconds,
        control_cpu_ms_per_call_s=1000 * control_s / call_seconds,
        load_cpu_ms_per_call_s=1000 * said.cpu_s / call_seconds,
        late_ms=late(before, after),
        rtt_ms=said.rtt_ms,
        frames_expected=said.frames,
        frames_lost=said.lost,
    )


async def _all_up(at: Control, job: Job) -> None:
    """Wait until every call streams to the app. Raise `NoStream`."""
    try:
        async with asyncio.timeout(job.placing_s + job.stand_s):
            while (await at.vitals()).streams_up < job.calls:
                pass
    except TimeoutError:
        raise NoStream(f"{(await at.vitals()).streams_up} of {job.calls} calls stream") from None


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round, SIP and plain RTP one right after the other, and the summary last.

    Raise `BenchError`, also without sipp."""
    sipp.check()
    rounds = []
    with apps(TOPOLOGY, 1) as at:
        for _ in range(plan.rounds):
            watch = machine.Watch()
            job = Job(at.ports[0], plan.calls, plan.seconds, plan.settle_s, STAND_S)
            ours = run_process(job, SipLegs, job.placing_s + 2 * job.up_s)
            plain = measure(TOPOLOGY, plan, at)
            rounds.append(
                report.line(
                    watch.end(),
                    **msgspec.structs.asdict(ours),
                    plain_cpu_ms_per_call_s=plain.cpu_ms_per_call_s,
                    plain_late_ms=plain.late_ms,
                    plain_rtt_ms=plain.rtt_ms,
                    plain_frames_lost=plain.frames_lost,
                    cost_ratio=ours.cpu_ms_per_call_s / plain.cpu_ms_per_call_s,
                )
            )
            yield rounds[-1]
    yield report.summary(rounds, spread=SPREAD, middle=MIDDLE, total=TOTAL)
