"""The run `kill`: a whole server with two media workers, of which one, or the control process, is killed (SIGKILL).

What is asked: does every call of the killed worker end with one CallDisconnected, in time, and does nobody else lose a
frame? Do media go on without control, is it back soon, and does it still hold the calls?
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import numpy as np

from offhook.audio import pcm
from offhook.bench import app, machine, report
from offhook.bench.app import Ports
from offhook.bench.call_app import CallApp
from offhook.bench.figures import NoStream
from offhook.bench.frames import HOST
from offhook.bench.plan import Plan
from offhook.bench.processes import run as run_process
from offhook.bench.processes import running
from offhook.bench.report import Line
from offhook.server.config import DEVELOPMENT_KEY
from offhook.testing.caller import Caller, CallerError, Party

RATE = 16_000
WORKERS = 2
KILL_AFTER_S = 1.0  # of what callers say
STEP_S = 30.0  # for the server to start, for calls to stand, for scripts to be heard …
ENDS_S = 5.0  # for calls to be told of as ended
LATER_S = 1.0  # what comes twice comes within so long
ASK_EVERY_S = 0.02
AGAIN_S = 1.0  # after a refusal
EVENTS = ("CallConnected", "ParticipantsUpdated", "MediaStreamingStarted", "MediaStreamingStopped", "CallDisconnected")

What = Literal["worker", "control"]


class Job(msgspec.Struct, frozen=True):
    """`calls` to the app at `app`; `what` is killed under them, and callers go on speaking for `seconds`."""

    app: Ports
    calls: int
    seconds: float
    what: What


class Killed(msgspec.Struct, frozen=True):
    """What came of it. Calls that should end, and ended: `expected_disconnected`, `disconnected`; `doubled`: told of
    more than once; `last_told_s` after the kill. `kept` calls should go on; `ended` did not, all the same, and
    `others_lost` frames of them were not heard back, besides `taken_out`: an echo that is late makes its stream wait a
    frame longer, which is taken out again (`audio.playout`), and counted by the stream. `back_s`: until a new control
    process answers and has all calls; `hung_up`: calls that could be hung up then; `disordered`: those whose app was
    not told `EVENTS`. 0 where it was not asked."""

    kept: int
    others_lost: int
    taken_out: int
    ended: int
    doubled: int
    expected_disconnected: int = 0
    disconnected: int = 0
    last_told_s: float = 0.0
    back_s: float = 0.0
    hung_up: int = 0
    disordered: int = 0


def play(job: Job) -> Killed:
    """Raise `OSError` when the server does not start or its calls do not come about."""
    try:
        return asyncio.run(_measure(job))
    except (CallerError, TimeoutError) as error:
        raise NoStream(f"the server did not do its part: {str(error) or 'not in time'}") from error


async def _measure(job: Job) -> Killed:
    async with CallApp(job.app.url(), DEVELOPMENT_KEY) as answering, _server(answering.incoming) as url:
        answering.serve(url)
        async with Caller(url, DEVELOPMENT_KEY) as caller:
            await _all_up(caller)
            callers = await _place(caller, answering, job.calls)
            for one in callers:
                await one.say(round((KILL_AFTER_S + job.seconds) * pcm.FRAMES_PER_SECOND))
            await asyncio.sleep(KILL_AFTER_S)
            told = await caller.request("GET", "/health")
            if job.what == "worker":
                worker = told["workers"][0]
                return await _kill_worker(worker["pid"], worker["calls"], callers, caller, answering)
            return await _kill_control(told["pid"], callers, caller, answering)


async def _all_up(caller: Caller) -> None:
    """Wait until all workers are there: the server begins without those that take a second more than the first one."""
    async with asyncio.timeout(STEP_S):
        while (await caller.request("GET", "/health"))["status"] != "ok":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(ASK_EVERY_S)


async def _kill_worker(pid: int, calls: int, callers: Sequence[_Caller], caller: Caller, answering: CallApp) -> Killed:
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    with suppress(TimeoutError):  # Then some are missing.
        await answering.until(lambda: len(answering.ends) >= calls, ENDS_S)
    told = max((at[0] for at in answering.ends.values()), default=killed)
    disconnected = len(answering.ends)
    survivors = [one for one in callers if not one.party.ended]
    await _heard(survivors)
    ended = len(callers) - calls - sum(not one.party.ended for one in survivors)
    lost, taken_out = await _hang_up(survivors, caller, answering)
    return Killed(
        kept=len(callers) - calls,
        others_lost=lost,
        taken_out=taken_out,
        ended=max(ended, 0),
        doubled=answering.doubled(),
        expected_disconnected=calls,
        disconnected=disconnected,
        last_told_s=told - killed,
    )


async def _kill_control(pid: int, callers: Sequence[_Caller], caller: Caller, answering: CallApp) -> Killed:
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(STEP_S):
        while True:
            if await _has(caller, len(callers)):
                break
            await asyncio.sleep(ASK_EVERY_S)
    back = time.monotonic() - killed
    await _heard(callers)
    ended = sum(one.party.ended for one in callers)
    lost, taken_out = await _hang_up(callers, caller, answering)
    return Killed(
        kept=len(callers),
        others_lost=lost,
        taken_out=taken_out,
        ended=ended,
        doubled=answering.doubled(),
        back_s=back,
        hung_up=len(answering.ends) - ended,
        disordered=answering.disordered(EVENTS),
    )


async def _hang_up(callers: Sequence[_Caller], caller: Caller, answering: CallApp) -> tuple[int, int]:
    """Let the app hang up whatever goes on. Return how many frames of these callers were lost, and how many were taken
    out, as the figures tell that their streams leave."""
    for connection in answering.connections:
        with suppress(CallerError):  # It has ended, or cannot be hung up, which is told by what is counted.
            await caller.request("DELETE", f"/calling/callConnections/{connection}?api-version=2025-06-15")
    with suppress(TimeoutError):
        await answering.until(lambda: len(answering.ends) >= len(answering.connections), ENDS_S)
    await asyncio.sleep(LATER_S)
    lost = taken_out = 0
    for one in callers:
        missing = one.missing()
        taken = min(missing, await _skipped(caller, one.party.call_id)) if missing else 0
        lost, taken_out = lost + missing - taken, taken_out + taken
    return lost, taken_out


async def _skipped(caller: Caller, call: str) -> int:
    """Return how many frames the streams of a call that is over have skipped; 0 if that is not known any more."""
    try:
        shown = await caller.request("GET", f"/offhook/calls/{call}")
    except CallerError:
        return 0
    return sum(stream["skipped"] for stream in shown["streams"].values())


async def _has(caller: Caller, calls: int) -> bool:
    """Whether control answers, and has so many calls."""
    try:
        health = await caller.request("GET", "/health")
    except CallerError:
        return False
    held: int = sum(worker["calls"] for worker in health["workers"])
    return held >= calls


# ------------------------------------------------------------------------------------------------ the server


@asynccontextmanager
async def _server(incoming: str) -> AsyncIterator[str]:
    """A server in processes of its own, until the context ends: its URL."""
    with TemporaryDirectory(prefix="offhook-bench-") as data_dir:
        options = ["--host", HOST, "--http", "0", "--https", "off", "--workers", str(WORKERS)]
        options += ["--incoming", incoming, "--data-dir", data_dir]
        command = [sys.executable, "-P", "-m", "offhook", "serve", *options]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(STEP_S):
                line = await process.stdout.readline()
            if not line:
                raise NoStream("offhook serve did not start")
            yield f"http://{HOST}:{msgspec.json.decode(line)['http']}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


# ------------------------------------------------------------------------------------------------ the callers


class _Caller:
    """A caller who says numbered frames, and what it hears of them."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self._said = 0
        self._numbers: list[int] = []
        self.heard_all = asyncio.Event()
        party.on_frame = self._on_frame

    async def say(self, frames: int) -> None:
        self._said = frames
        await self.party.say(numbered(frames))

    def _on_frame(self, frame: bytes) -> None:
        number = int.from_bytes(frame[:2], "little")
        if number:
            self._numbers.append(number)
            if number == self._said:
                self.heard_all.set()

    def missing(self) -> int:
        """Return how many frames were not heard in their order, or were heard that should not have been."""
        in_order = sum(after > before for before, after in pairwise([0, *self._numbers]))
        return self._said - in_order + len(self._numbers) - in_order


def numbered(frames: int) -> bytes:
    """Return PCM whose n-th frame has the value n in all of its samples, from 1 on."""
    return np.repeat(np.arange(1, frames + 1), pcm.samples_per_frame(RATE)).astype("<i2").tobytes()


async def _place(caller: Caller, answering: CallApp, count: int) -> list[_Caller]:
    """Let so many callers be answered, and their streams be up."""
    placed = [_Caller(await _call(caller, f"+1555010{number:04}")) for number in range(count)]
    for one in placed:
        if await one.party.wait_for("connected", "ended", timeout=STEP_S) != "connected":
            raise NoStream(f"a call was not answered: {one.party.states[-1].reason}")
    await answering.until(lambda: len(answering.streaming) >= count, STEP_S)
    return placed


async def _call(caller: Caller, number: str) -> Party:
    """Call, and again while the server has no room at the moment: the first calls of many make it late."""
    async with asyncio.timeout(STEP_S):
        while True:
            try:
                return await caller.call("+15550199", number, RATE)
            except CallerError as error:
                if not str(error).startswith("503"):
                    raise
                await asyncio.sleep(AGAIN_S)


async def _heard(callers: Sequence[_Caller]) -> None:
    """Wait until all have heard their script to its end, or do not."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STEP_S):
            await asyncio.gather(*(one.heard_all.wait() for one in callers))


# ------------------------------------------------------------------------------------------------ the row


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each kill in each round, then a summary of each. Raise `BenchError`."""
    lines: dict[What, list[Line]] = {"worker": [], "control": []}
    for _ in range(plan.rounds):
        for what, done in lines.items():
            watch = machine.Watch()
            with running(app.Job(RATE), Ports) as ports:
                one = run_process(Job(ports, plan.calls, plan.seconds, what), Killed, 4 * STEP_S + plan.run_s)
            done.append({"what": what, **report.line(watch.end(), **msgspec.structs.asdict(one))})
            yield done[-1]
    of_the_killed = ("expected_disconnected", "disconnected", "hung_up", "disordered")
    counts = ("kept", "others_lost", "taken_out", "ended", "doubled", *of_the_killed)
    for what, done in lines.items():
        yield {"what": what, **report.summary(done, spread=("last_told_s", "back_s"), total=counts)}
