"""The processes of a run: each plays one role, told to it as JSON, and answers with one line of JSON.

A role is a module of this package with a struct `Job` and a function `play(job)`: `python -m offhook.bench MODULE JOB`.
What `play` returns is printed; a role that stays (an app) prints where it is by itself, and is killed in the end.
Every run is a process of its own, so that its CPU time and memory are its own. All are bounded in time, and gone when
the run is over or interrupted; if we are killed, the kernel kills them.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import msgspec

START_S = 15.0  # for an app to listen
OVERHEAD_S = 30.0  # of a run, for its start, its end and a slow machine

T = TypeVar("T", bound=msgspec.Struct)


class BenchError(Exception):
    """A run cannot be made here, or it failed."""


def run(job: msgspec.Struct, result: type[T], seconds: float) -> T:
    """Run one process to its end, which should take `seconds`, and return what it says. Raise `BenchError`."""
    return run_together([job], result, seconds)[0]


def run_together(jobs: Sequence[msgspec.Struct], result: type[T], seconds: float) -> list[T]:
    """Run some processes at the same time; otherwise as `run`."""
    limit = time.monotonic() + OVERHEAD_S + seconds
    with ExitStack() as started:
        processes = [started.enter_context(_process(job)) for job in jobs]
        return [_result(process, _role(job), result, limit) for process, job in zip(processes, jobs, strict=True)]


@contextmanager
def running(job: msgspec.Struct, ready: type[T]) -> Iterator[T]:
    """A process that stays until the context ends; what it says when it is ready."""
    with _process(job) as process:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], START_S)[0] or not (line := process.stdout.readline()):
            raise BenchError(f"the {_role(job)} did not start")
        yield msgspec.json.decode(line, type=ready)


def _role(job: msgspec.Struct) -> str:
    return type(job).__module__.rpartition(".")[2]


@contextmanager
def _process(job: msgspec.Struct) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "offhook.bench", _role(job), msgspec.json.encode(job).decode()]
    # In a session of its own: Ctrl-C is for us, and we kill what we started.
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _result(process: subprocess.Popen[bytes], role: str, result: type[T], limit: float) -> T:
    try:
        printed, _ = process.communicate(timeout=max(limit - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        raise BenchError(f"the {role} did not end in time") from None
    if process.returncode:
        raise BenchError(f"the {role} failed (exit status {process.returncode})")
    return msgspec.json.decode(printed, type=result)
