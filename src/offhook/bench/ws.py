"""The topologies `ws16` and `ws24`: N calls, each with a stream both ways to an app that echoes, against their floor.

Every run is a process of its own, so that its CPU time and memory are its own; product and floor take turns. The app is
a third process, which stays. All are on loopback, bounded in time, and gone when the last line is out or the run is
interrupted; if we are killed, the kernel kills them.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from offhook.bench import machine, report
from offhook.bench.work import Floor, Ports, Product, Sticky, Work

RATES = {"ws16": 16_000, "ws24": 24_000}
MAX_CALLS = 4000
MAX_SECONDS = 600.0
MAX_ROUNDS = 100
START_S = 15.0  # for the app to listen
OVERHEAD_S = 30.0  # of a run, for its start, its end and a slow machine …
OPENING_S = 0.05  # … and for each call

T = TypeVar("T", bound=msgspec.Struct)


class BenchError(Exception):
    """A run cannot be made here, or it failed."""


def run(topology: str, work: Work, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a line for each round as it is done, and the summary last. Raise `BenchError`.

    `work.rate` and `work.ports` are filled in here.
    """
    _check(topology, work, rounds)
    title = {"topology": topology, "calls": work.calls, "seconds": work.seconds, "rounds": rounds}
    work = msgspec.structs.replace(work, rate=RATES[topology])
    done: list[report.Round] = []
    with _app(work) as ports:
        work = msgspec.structs.replace(work, ports=ports)
        for number in range(1, rounds + 1):
            steal = machine.Steal()
            product = _run("product", work, Product)
            floor = _run("floor", work, Floor)
            done.append(report.Round(number, product, floor, os.getloadavg()[0], steal.percent()))
            yield {**title, **done[-1].line()}
        sticky = _run("sticky", work, Sticky)
    yield {**title, **report.summary(done, sticky.delay_ms)}


def _check(topology: str, work: Work, rounds: int) -> None:
    if not machine.supported():
        raise BenchError("bench measures on Linux only: CPU time, steal and memory are read from /proc")
    if topology not in RATES:
        raise BenchError(f"no topology {topology!r}; there are: {', '.join(RATES)}")
    if not 1 <= work.calls <= MAX_CALLS:
        raise BenchError(f"calls: 1 to {MAX_CALLS}")
    if not 0.1 <= work.seconds <= MAX_SECONDS:
        raise BenchError(f"seconds: 0.1 to {MAX_SECONDS:g}")
    if not 1 <= rounds <= MAX_ROUNDS:
        raise BenchError(f"rounds: 1 to {MAX_ROUNDS}")


def _command(role: str, work: Work) -> list[str]:
    return [sys.executable, "-m", "offhook.bench", role, msgspec.json.encode(work).decode()]


def _run(role: str, work: Work, result: type[T]) -> T:
    """Run one process to its end and return what it says."""
    limit = OVERHEAD_S + OPENING_S * work.calls + work.settle_s + work.seconds + work.live_s
    try:
        # In a session of its own: Ctrl-C is for us, and we kill what we started.
        ended = subprocess.run(
            _command(role, work), stdout=subprocess.PIPE, timeout=limit, start_new_session=True, check=True
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"the {role} did not end within {limit:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise BenchError(f"the {role} failed (exit status {error.returncode})") from None
    return msgspec.json.decode(ended.stdout, type=result)


@contextmanager
def _app(work: Work) -> Iterator[Ports]:
    """The echo app, from when it listens until the context ends."""
    with subprocess.Popen(_command("app", work), stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            if not select.select([process.stdout], [], [], START_S)[0] or not (line := process.stdout.readline()):
                raise BenchError("the echo app did not start")
            yield msgspec.json.decode(line, type=Ports)
        finally:
            process.kill()
