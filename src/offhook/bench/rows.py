"""Every run that `offhook bench` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from offhook.bench import bots, kill, machine, memory, rtt, scale, sip, sip_legs, slow, soak, stall, topology, workers
from offhook.bench.plan import MAX_CALLS, MAX_ROUNDS, MAX_SECONDS, MAX_WORKERS, Plan
from offhook.bench.processes import BenchError
from offhook.bench.report import Line
from offhook.bench.topology import Topology


@dataclass(frozen=True)
class Row:
    """A run: what it shows, how, and how much of it `make bench` does."""

    about: str
    run: Callable[[Plan], Iterator[Line]]
    plan: Plan
    several_workers: bool = False  # takes `--workers`


ROWS = {
    "ws16": Row("calls at 16 kHz", partial(topology.run, Topology(16_000)), Plan(200, 6, 3), True),
    "ws24": Row("calls at 24 kHz", partial(topology.run, Topology(24_000)), Plan(200, 6, 3), True),
    "rtp16": Row("telephones at 16 kHz", partial(topology.run, Topology(16_000, rtp=True)), Plan(200, 6, 3), True),
    "rtp24": Row("telephones at 24 kHz", partial(topology.run, Topology(24_000, rtp=True)), Plan(200, 6, 3), True),
    "secure24": Row(
        "the same with SRTP and wss", partial(topology.run, Topology(24_000, True, True)), Plan(100, 6, 3), True
    ),
    "sip16": Row("telephones that called by SIP, against rtp16", sip_legs.run, Plan(200, 6, 3)),
    "sip": Row("calls by SIP, one after the other", sip.run, Plan(1000, 5, 1)),
    # The jitter buffer takes 10 s to forget the first packets, which came while the calls were set up.
    "rtt": Row("there and back by telephone", rtt.run, Plan(100, 6, 3, settle_s=10)),
    "bot": Row("an app on offhook.bot against the quickstart's", bots.run, Plan(100, 6, 3)),
    "scale": Row("cost and lateness against the number of calls", scale.run, Plan(400, 5, 3)),
    "workers": Row("two workers against one", workers.run, Plan(300, 6, 3)),
    "stall": Row("an app stops for 0.2 s and 2 s", stall.run, Plan(50, 0.1, 3)),
    "slow": Row("one app reads 1 KB/s", slow.run, Plan(100, 8, 2)),
    "kill": Row("a worker is killed, then control", kill.run, Plan(100, 7, 3)),
    "memory": Row("resident memory of a call", memory.run, Plan(250, 0.1, 3)),
    "soak": Row("many calls for long", soak.run, Plan(200, 600, 1)),
}


def run(name: str, plan: Plan) -> Iterator[Line]:
    """Yield what the run `name` prints: lines of rounds as they are done, and a summary last. Raise `BenchError`."""
    row = _checked(name, plan)
    title = {
        "topology": name,
        "calls": plan.calls,
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "workers": plan.workers,
    }
    for line in row.run(plan):
        yield {**title, **line}


def plan(name: str, **wanted: Any) -> Plan:
    """Return the plan of the run `name`, with what is not None in `wanted` instead. Raise `BenchError`."""
    return replace(_row(name).plan, **{field: value for field, value in wanted.items() if value is not None})


def _row(name: str) -> Row:
    if name not in ROWS:
        raise BenchError(f"no run {name!r}; there are: {', '.join(ROWS)}")
    return ROWS[name]


def _checked(name: str, plan: Plan) -> Row:
    row = _row(name)
    if not machine.supported():
        raise BenchError("bench measures on Linux only: CPU time, steal and memory are read from /proc")
    if not 2 <= plan.calls <= MAX_CALLS:
        raise BenchError(f"calls: 2 to {MAX_CALLS}")
    if not 0.1 <= plan.seconds <= MAX_SECONDS:
        raise BenchError(f"seconds: 0.1 to {MAX_SECONDS:g}")
    if not 1 <= plan.rounds <= MAX_ROUNDS:
        raise BenchError(f"rounds: 1 to {MAX_ROUNDS}")
    if not 1 <= plan.workers <= min(MAX_WORKERS, plan.calls):
        raise BenchError(f"workers: 1 to {MAX_WORKERS}, and no more than calls")
    if plan.workers > 1 and not row.several_workers:
        raise BenchError(f"{name} takes no --workers")
    return row
