"""The run `workers`: twice the calls on two workers, against the calls on one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec

from offhook.bench import machine, report
from offhook.bench.plan import Plan
from offhook.bench.report import Line
from offhook.bench.topology import Topology, apps, measure

TOPOLOGY = Topology(24_000)


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for one worker with half of the calls and one for two with all of them, round by round, and the
    summary last. Raise `BenchError`."""
    lines: dict[int, list[Line]] = {1: [], 2: []}
    with apps(TOPOLOGY, 2) as both:
        one = replace(both, ports=both.ports[:1])
        for _ in range(plan.rounds):
            for workers, at in ((1, one), (2, both)):
                calls = plan.calls // 2 * workers
                watch = machine.Watch()
                ours = measure(TOPOLOGY, replace(plan, calls=calls), at)
                made = report.line(watch.end(), **msgspec.structs.asdict(ours))
                lines[workers].append({"workers": workers, "calls": calls, **made})
                yield lines[workers][-1]
    for workers, done in lines.items():
        title = {"workers": workers, "calls": done[0]["calls"]}
        spread, middle = ("cpu_ms_per_call_s",), ("late_ms", "rtt_ms")
        yield {**title, **report.summary(done, spread=spread, middle=middle, total=("frames_lost",))}
    compared = report.compared(lines[2], lines[1], cost_ratio="cpu_ms_per_call_s")
    for pair, two, single in zip(compared, lines[2], lines[1], strict=True):
        pair["late_p99_rise_ms"] = round(two["late_ms"]["p99"] - single["late_ms"]["p99"], 3)
    compared_to = {"workers": 2, "against": lines[1][0]["calls"]}
    yield {**compared_to, **report.summary(compared, spread=("cost_ratio", "late_p99_rise_ms"))}
