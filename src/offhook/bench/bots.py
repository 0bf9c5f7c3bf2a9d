"""The run `bot`: an echo app on `offhook.bot` against the quickstart's handler, each in a process of its own.

The quickstart's is `websockets`, `json` and `base64` on asyncio's own event loop, which the others run on, too. The
floor is a socket as `offhook.bot` has it that looks into no message: what the kernel, the event loops and frames that
come together take is in its delay as in the others', so the difference to it is what the app adds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import msgspec

from offhook.bench import bot_app, bot_load, machine, report
from offhook.bench.plan import Plan
from offhook.bench.processes import BenchError, running
from offhook.bench.processes import run as run_process
from offhook.bench.report import Line

SPREAD = ("cpu_ms_per_call_s",)
MIDDLE = ("waited_ms_per_call_s", "load_cpu_ms_per_call_s", "added_ms", "load_late_ms")


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each app in each round, then a summary of each, and of both last. Raise `BenchError`."""
    if importlib.util.find_spec("websockets") is None:
        raise BenchError("the quickstart's handler needs websockets: pip install websockets")
    lines: dict[bot_app.Kind, list[Line]] = {"floor": [], "offhook": [], "quickstart": []}
    for _ in range(plan.rounds):
        for kind, done in lines.items():
            watch = machine.Watch()
            with running(bot_app.Job(kind), bot_app.Where) as where:
                job = bot_load.Job(where, bot_app.RATE, plan.calls, plan.seconds, plan.settle_s)
                one = run_process(job, bot_load.Load, plan.run_s)
            done.append({"app": kind, **report.line(watch.end(), **msgspec.structs.asdict(one))})
            yield done[-1]
    for kind, done in lines.items():
        yield {"app": kind, **report.summary(done, spread=SPREAD, middle=MIDDLE, total=("frames", "lost"))}
    floors, ours, theirs = lines.values()
    over = [_over(one, floor) for one, floor in zip(ours, floors, strict=True)]
    yield {"against": "floor", **report.summary(over, middle=("added_over_floor_ms",))}
    compared = report.compared(ours, theirs, ratio_to_quickstart="cpu_ms_per_call_s")
    yield {"against": "quickstart", **report.summary(compared, spread=("ratio_to_quickstart",))}


def _over(one: Line, floor: Line) -> Line:
    """Return a line for two apps of one round: by how much a percentile of the one's delays is above the other's."""
    [line] = report.compared([one], [floor])
    above = {name: round(one["added_ms"][name] - floor["added_ms"][name], 3) for name in ("p50", "p99")}
    return {"added_over_floor_ms": above, **line}
