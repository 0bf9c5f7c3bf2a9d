"""`offhook bench`: make a run, print its lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from offhook.bench import rows
from offhook.bench.plan import MAX_CALLS, MAX_ROUNDS, MAX_SECONDS, MAX_WORKERS
from offhook.bench.processes import BenchError
from offhook.bench.report import Line

_WHAT = ", ".join(rows.ROWS)


def bench(
    topology: Annotated[str, typer.Argument(help=f"One of {_WHAT}; all of them; or page, to write that anew.")],
    calls: Annotated[int | None, typer.Option(min=2, max=MAX_CALLS, help="Calls at the same time.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=MAX_SECONDS, help="Measured time of a round.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=MAX_ROUNDS, help="Rounds.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=MAX_WORKERS, help="Workers that share the calls.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="all: as little of each as shows that it works.")] = False,
    out: Annotated[Path, typer.Option(help="all, page: folder of performance.md.")] = Path("docs"),
    json_: Annotated[bool, typer.Option("--json", help="JSON lines only, without the words for people.")] = False,
) -> None:
    """Measure what calls cost on this machine, and how it holds out (Linux).

    Prints a JSON line for each round, and summaries last.
    """
    try:
        if topology == "page":
            _page(out)
            return
        for line in _lines(topology, out, quick, calls=calls, seconds=seconds, rounds=rounds, workers=workers):
            print(json.dumps(line), flush=True)
            if line.get("summary") and not json_:
                print(_words(line), file=sys.stderr)
    except (BenchError, OSError, ValueError) as error:
        print(f"offhook: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _lines(topology: str, out: Path, quick: bool, **wanted: float | None) -> Iterator[Line]:
    if topology != "all":
        return rows.run(topology, rows.plan(topology, **wanted))
    from offhook.bench import suite  # Only now: it draws, and matplotlib comes with the extra [demo].

    return suite.run(out, quick=quick)


def _page(out: Path) -> None:
    from offhook.bench import page

    page.write(out)


def _words(summary: Line) -> str:
    """Return a summary for people: every figure of it on a line."""
    title = " ".join(str(summary[name]) for name in ("topology", "calls") if name in summary)
    lines = [f"{title} calls:"]
    for name, value in summary.items():
        match value:
            case {"median": middle, "min": least, "max": most}:
                lines.append(f"  {name}: {middle:g} ({least:g} to {most:g})")
            case dict():
                lines.append(f"  {name}: " + ", ".join(f"{part} {each:g}" for part, each in value.items()))
            case float() | int() if name not in _TITLE:
                lines.append(f"  {name}: {value:g}")
    if summary["too_busy"]:
        lines.append(f"  the machine was too busy to tell: {summary['too_busy_reason']}")
    return "\n".join(lines)


_TITLE = ("calls", "summary", "too_busy")
