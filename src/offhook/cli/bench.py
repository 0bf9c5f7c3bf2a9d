"""`offhook bench`: run a topology, print its figures."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from offhook.bench import ws
from offhook.bench.work import Work


def bench(
    topology: Annotated[str, typer.Argument(help="ws16 or ws24: calls with a stream both ways to an echo app.")],
    calls: Annotated[int, typer.Option(min=1, max=ws.MAX_CALLS, help="Calls at the same time.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, max=ws.MAX_SECONDS, help="Measured time of each run.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, max=ws.MAX_ROUNDS, help="Rounds of product and floor.")] = 3,
    json_: Annotated[bool, typer.Option("--json", help="JSON lines only, without the words for people.")] = False,
) -> None:
    """Measure what calls cost on this machine, as a multiple of what their sockets alone cost (Linux).

    Prints a JSON line for each round and the summary last.
    """
    line: dict[str, Any] = {}
    try:
        for line in ws.run(topology, Work(rate=0, calls=calls, seconds=seconds), rounds):
            print(json.dumps(line), flush=True)
    except ws.BenchError as error:
        print(f"offhook: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not json_:
        print(_words(line), file=sys.stderr)


def _words(summary: dict[str, Any]) -> str:
    cpu, floor, ratio = (summary[key] for key in ("cpu_ms_per_call_s", "floor_cpu_ms_per_call_s", "floor_ratio"))
    late, trip = summary["late_ms"], summary["rtt_ms"]
    lines = [
        f"{summary['topology']}, {summary['calls']} calls: {cpu['median']:.2f} ms CPU per call-second, "
        f"{ratio['median']:.2f} × the floor's {floor['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})",
        f"late {late['p50']:.1f} ms (p99 {late['p99']:.1f}, max {late['max']:.1f}), "
        f"there and back {trip['p50']:.0f} ms (p99 {trip['p99']:.0f})",
        f"{summary['frames_expected']} frames, {summary['frames_left_out']} left out, {summary['frames_lost']} lost",
    ]
    if summary["too_busy"]:
        lines.append(f"the machine was too busy to tell: {summary['too_busy_reason']}")
    return "\n".join(lines)
