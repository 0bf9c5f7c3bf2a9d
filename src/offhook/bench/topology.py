"""The topologies: N calls, each with a stream both ways to an app that echoes, against the floor of the same work.

Product and floor take turns, round by round. Every worker of the product, and of the floor, has an app of its own; the
apps stay for all rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import msgspec

from offhook.bench import app, floor, machine, product, report, stall
from offhook.bench.app import Ports
from offhook.bench.figures import Late
from offhook.bench.floor import Floor
from offhook.bench.plan import Plan
from offhook.bench.processes import run_together, running
from offhook.bench.product import Product
from offhook.bench.report import Line
from offhook.server import tls

SPREAD = ("cpu_ms_per_call_s", "floor_cpu_ms_per_call_s", "floor_ratio")
MIDDLE = ("late_ms", "rtt_ms", "rss_kib_per_call", "app_cpu_ms_per_call_s", "load_cpu_ms_per_call_s")
TOTAL = ("frames_expected", "frames_sent", "frames_left_out", "frames_lost")


@dataclass(frozen=True)
class Topology:
    """What the calls are made of: streams of `rate` Hz, over wss if `secure`, and telephones by RTP, or SRTP then."""

    rate: int
    secure: bool = False
    rtp: bool = False


@dataclass(frozen=True)
class Apps:
    """The apps of the workers, and the file with the CA of their wss."""

    ports: Sequence[Ports]
    ca: str | None


@contextmanager
def apps(topology: Topology, workers: int) -> Iterator[Apps]:
    """One app for each worker, until the context ends."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="offhook-bench-")) if topology.secure else None
        ca = str(tls.ensure(Path(folder)).ca) if folder else None
        job = app.Job(topology.rate, folder)
        yield Apps([stack.enter_context(running(job, Ports)) for _ in range(workers)], ca)


def measure(topology: Topology, plan: Plan, at: Apps) -> Product:
    """Run the product once: a worker for each app, `plan.calls` in all."""
    calls = plan.calls // len(at.ports)
    jobs = [
        product.Job(ports, topology.rate, calls, plan.seconds, plan.settle_s, at.ca, topology.rtp) for ports in at.ports
    ]
    return product.together(run_together(jobs, Product, plan.run_s))


def measure_floor(topology: Topology, plan: Plan, at: Apps) -> Floor:
    """Run the floor once, as `measure`."""
    calls = plan.calls // len(at.ports)
    jobs = [floor.Job(ports, topology.rate, calls, plan.seconds, plan.settle_s, topology.rtp) for ports in at.ports]
    each = run_together(jobs, Floor, plan.run_s)
    return Floor(
        cpu_ms_per_call_s=fmean(one.cpu_ms_per_call_s for one in each),
        app_cpu_ms_per_call_s=fmean(one.app_cpu_ms_per_call_s for one in each),
        late_ms=Late(
            max(one.late_ms.p50 for one in each),
            max(one.late_ms.p99 for one in each),
            max(one.late_ms.max for one in each),
        ),
        missed=sum(one.missed for one in each),
    )


def one_round(topology: Topology, plan: Plan, at: Apps) -> Line:
    """Run product and floor, one right after the other."""
    watch = machine.Watch()
    ours, least = measure(topology, plan, at), measure_floor(topology, plan, at)
    return report.line(
        watch.end(),
        least.late_ms,
        **msgspec.structs.asdict(ours),
        floor_cpu_ms_per_call_s=least.cpu_ms_per_call_s,
        floor_app_cpu_ms_per_call_s=least.app_cpu_ms_per_call_s,
        floor_late_ms=least.late_ms,
        floor_missed=least.missed,
        floor_ratio=ours.cpu_ms_per_call_s / least.cpu_ms_per_call_s,
    )


def run(topology: Topology, plan: Plan) -> Iterator[Line]:
    """Yield a line for each round as it is done, and the summary last. Raise `BenchError`."""
    rounds = []
    with apps(topology, plan.workers) as at:
        for _ in range(plan.rounds):
            rounds.append(one_round(topology, plan, at))
            yield rounds[-1]
    sticky = stall.once(topology.rate, calls=1, stall_s=stall.SHORT_S, live_s=plan.live_s)
    yield {
        **report.summary(rounds, spread=SPREAD, middle=MIDDLE, total=TOTAL),
        "sticky_delay_ms": round(sticky.after_ms - sticky.before_ms, 3),
    }
