"""`offhook bench all`: every run, and the page about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from offhook.bench import machine, page, rows
from offhook.bench.plan import Plan
from offhook.bench.processes import BenchError
from offhook.bench.report import Line

QUICK_CALLS, QUICK_S = 20, 1.0


def run(folder: Path, *, quick: bool = False) -> Iterator[Line]:
    """Yield the lines of every run, one after the other, then write the page, the lines and the pictures to `folder`.

    A run that cannot be made is a line with its `error`; the others go on. Raise `BenchError` when none can be made or
    the folder is not there, OSError when it cannot be written to.
    """
    if not machine.supported() or not folder.is_dir():
        raise BenchError(f"bench all needs Linux, and the folder {folder} to write to")
    about = _about(quick)
    yield about
    lines: list[Line] = []
    for name, row in rows.ROWS.items():
        try:
            for line in rows.run(name, quick_plan(row.plan) if quick else row.plan):
                lines.append(line)
                yield line
        except BenchError as error:
            lines.append({"topology": name, "error": str(error)})
            yield lines[-1]
    page.keep(folder, about, lines)
    page.write(folder)


def quick_plan(plan: Plan) -> Plan:
    """Return what is left of a plan when all that matters is whether it can be done."""
    calls, seconds = min(plan.calls, QUICK_CALLS), min(plan.seconds, QUICK_S)
    return replace(plan, calls=calls, seconds=seconds, rounds=1, settle_s=0.5)


def _about(quick: bool) -> Line:
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"machine": msgspec.to_builtins(machine.facts()), "date": date, "quick": quick}
