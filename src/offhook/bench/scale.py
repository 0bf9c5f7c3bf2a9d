"""The run `scale`: what a call costs, and how late it is, against the number of calls on one worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from offhook.bench import report
from offhook.bench.plan import Plan
from offhook.bench.report import Line
from offhook.bench.topology import MIDDLE, SPREAD, TOTAL, Topology, apps, one_round

TOPOLOGY = Topology(24_000)
STEPS = (0.125, 0.25, 0.5, 0.75, 1.0)  # of the greatest number of calls: 50, 100, 200, 300, 400
LOW, HIGH = STEPS[1], STEPS[-1]  # whose costs are compared


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each number of calls in each round, then a summary of each, and of all last. Raise `BenchError`.

    A round goes up in one and down in the next, so that what drifts does not favour one end.
    """
    lines: dict[int, list[Line]] = {max(round(step * plan.calls), 1): [] for step in STEPS}
    with apps(TOPOLOGY, 1) as at:
        for number in range(plan.rounds):
            for calls in sorted(lines, reverse=bool(number % 2)):
                one = {"calls": calls, **one_round(TOPOLOGY, replace(plan, calls=calls), at)}
                lines[calls].append(one)
                yield one
    for calls, done in lines.items():
        yield {"calls": calls, **report.summary(done, spread=SPREAD, middle=MIDDLE, total=TOTAL)}
    low, high = max(round(LOW * plan.calls), 1), max(round(HIGH * plan.calls), 1)
    compared = report.compared(lines[high], lines[low], cost_ratio="cpu_ms_per_call_s")
    yield {"calls": high, "against": low, **report.summary(compared, spread=("cost_ratio",))}
