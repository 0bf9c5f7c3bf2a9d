"""The run `rtt`: how long a telephone's audio takes to the app and back, RTP in to RTP out, without network jitter."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from offhook.bench import machine, report
from offhook.bench.plan import Plan
from offhook.bench.report import Line
from offhook.bench.topology import Topology, apps, measure

TOPOLOGY = Topology(24_000, rtp=True)
MIDDLE = ("rtt_ms", "late_ms", "cpu_ms_per_call_s", "load_cpu_ms_per_call_s")


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round, and the summary last. Raise `BenchError`."""
    rounds = []
    with apps(TOPOLOGY, 1) as at:
        for _ in range(plan.rounds):
            watch = machine.Watch()
            ours = measure(TOPOLOGY, plan, at)
            rounds.append(report.line(watch.end(), **msgspec.structs.asdict(ours)))
            yield rounds[-1]
    yield report.summary(rounds, middle=MIDDLE, total=("frames_expected", "frames_lost"))
