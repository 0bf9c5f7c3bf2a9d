"""What the supervisor tells the processes of one server, and how they begin and end.

A process reads JSON lines on its standard input: first a `ControlStart` or `WorkerStart`, then what it is told while it
runs. The end of that input is the end of the process, so none outlives its supervisor. It prints one line once it does
its work, and a beat every second from then on: one that hangs falls silent. Signals are the supervisor's business:
whoever signals all of a service at once reaches it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from offhook.server import logs

GRACE_S = 5.0  # at the end, for events that are still queued
LINE_LIMIT = 1 << 20  # bytes of one line from the supervisor
READY = b"ready\n"
BEAT = b"."
BEAT_S = 1.0  # from beat to beat
MISSED_BEATS = 10  # in a row: then the process hangs


class RemoteWorker(msgspec.Struct, frozen=True):
    """A media worker in another process: the path of its Unix socket, and the base URL of its audio sockets."""

    path: str
    audio: str


class Slot(msgspec.Struct, frozen=True):
    """What a supervisor knows of a media worker: its process (None: it is not there), how often it was started again
    since the supervisor's start, and whether that was too often: then it is `parked`, and not started any more."""

    pid: int | None = None
    restarts: int = 0
    parked: bool = False


class ControlStart(msgspec.Struct, frozen=True, tag=True):
    """Be the control process. `http`, `https`: descriptors of the listening sockets. `workers`: their sockets."""

    settings: dict[str, Any]
    http: int | None
    https: int | None
    workers: list[RemoteWorker]


class WorkerStart(msgspec.Struct, frozen=True, tag=True):
    """Be media worker `number`. `link`, `audio`: descriptors of the listening sockets for control and for parties.

    `ties`: the directory where the workers have their sockets for each other.
    """

    settings: dict[str, Any]
    number: int
    link: int
    audio: int | None
    ties: str


class Workers(msgspec.Struct, frozen=True, tag=True):
    """To control, at the start and with every change: how the worker processes are."""

    slots: list[Slot]


class Reload(msgspec.Struct, frozen=True, tag=True):
    """To control: settings were read anew."""

    settings: dict[str, Any]


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To control: take no new calls, and end when the last one is over."""


Told = ControlStart | WorkerStart | Workers | Reload | Drain


def encode(told: Told) -> bytes:
    """Return the line for it."""
    return msgspec.json.encode(told) + b"\n"


def run(work: Callable[[AsyncIterator[Told]], Coroutine[Any, Any, None]]) -> None:
    """Be a process of the server: do `work`, which is given what the supervisor tells."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logs.begin(" ".join(sys.argv[1:]))

    async def main() -> None:
        reader = asyncio.StreamReader(LINE_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await work(_lines(reader))

    asyncio.run(main())


def say_ready() -> None:
    """Print the one line, and beats as long as the event loop turns; what else is printed goes to where the log is."""
    supervisor = os.dup(sys.stdout.fileno())  # not inherited by processes that we start
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.write(supervisor, READY)
    os.set_blocking(supervisor, False)
    loop = asyncio.get_running_loop()

    def beat() -> None:
        with contextlib.suppress(OSError):  # nobody has read for hours, or nobody is there
            os.write(supervisor, BEAT)
        loop.call_later(BEAT_S, beat)

    beat()


async def hangs(beats: asyncio.StreamReader) -> bool:
    """Wait until no more beats come from a process that was ready; return whether it hangs: else it has ended.

    It hangs when `MISSED_BEATS` waits of our own, one after the other, brought none. No clock is compared: who was
    suspended along with us, or kept from running as we were, has missed one wait, however long that took.
    """
    missed = 0
    while missed < MISSED_BEATS:
        try:
            async with asyncio.timeout(BEAT_S):
                if not await beats.read(1024):
                    return False
            missed = 0
        except TimeoutError:
            missed += 1
    return True


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of them, and cancel the others; raise what it raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    for task in ended:
        task.result()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[Told]:
    while line := await reader.readline():
        yield _decoder.decode(line)


_decoder = msgspec.json.Decoder(Told)
