"""The run `slow`: one app that reads 1 KB a second among apps that keep up.

What is asked: do the other calls notice, is the memory bounded, and how old does its audio get in our hands? What the
kernel has taken from us cannot be taken back, so its part is told apart from that of our queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec

from offhook.audio import pcm
from offhook.bench import app, machine, report
from offhook.bench.app import Ports
from offhook.bench.calls import Caller, callers, media_worker, trips_ms
from offhook.bench.figures import Late, Trips, Window, trips
from offhook.bench.frames import HOST, numbered_frames, sizes
from offhook.bench.plan import Plan
from offhook.bench.processes import run as run_process
from offhook.bench.processes import running
from offhook.bench.report import Line
from offhook.media.stream import MediaStream

RATE = 24_000
LOOK_EVERY_S = 0.25
SPREAD = ("late_p99_rise_ms", "oldest_queued_ms")
DELAYS = ("late_before_ms", "late_after_ms", "rtt_before_ms", "rtt_after_ms")
MIDDLE = (*DELAYS, "kernel_bytes", "oldest_kernel_ms", "rss_kib")


class Job(msgspec.Struct, frozen=True):
    """`calls`, one of which is to the slow app; `seconds` are measured without it and, once buffers are full after
    `fill_s`, with it."""

    app: Ports
    rate: int
    calls: int
    seconds: float
    settle_s: float
    fill_s: float


class Slow(msgspec.Struct, frozen=True):
    """The others' lateness and round trips without the slow app and with it.

    Of the slow stream, at its worst: `oldest_queued_ms`, the age of the oldest message in our queue; `kernel_bytes`,
    what the kernel holds of ours, and the age of that, `oldest_kernel_ms`; `dropped` messages. `rss_kib`: how much more
    memory we had in the end.
    """

    late_before_ms: Late
    late_after_ms: Late
    rtt_before_ms: Trips
    rtt_after_ms: Trips
    oldest_queued_ms: float
    kernel_bytes: int
    oldest_kernel_ms: float
    dropped: int
    rss_kib: int


def play(job: Job) -> Slow:
    """Raise `NoStream` when a stream is not there all the time."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Slow:
    probes, others = callers(job.rate, job.calls - 1)
    async with media_worker() as calls:
        await calls.open_all(others, job.app.url(), job.rate)
        await asyncio.sleep(job.settle_s)
        before = Window(calls.worker.clock, job.app.pid)
        await asyncio.sleep(job.seconds)
        cost_before, rss = before.end(), machine.rss_kib()
        name = await calls.open(Caller(numbered_frames(job.rate)), f"ws://{HOST}:{job.app.slow}/", job.rate)
        look = _Look(stream := calls.stream(name), job)
        await look.look(job.fill_s)
        after = Window(calls.worker.clock, job.app.pid)
        await look.look(job.seconds)
        cost_after, rss = after.end(), machine.rss_kib() - rss
    return Slow(
        late_before_ms=cost_before.late_ms,
        late_after_ms=cost_after.late_ms,
        rtt_before_ms=trips(trips_ms(probes, before.began, before.began + cost_before.seconds)),
        rtt_after_ms=trips(trips_ms(probes, after.began, after.began + cost_after.seconds)),
        oldest_queued_ms=look.queued * pcm.FRAME_MS,
        kernel_bytes=look.kernel_bytes,
        oldest_kernel_ms=1000 * look.oldest_kernel_s,
        dropped=stream.dropped,
        rss_kib=rss,
    )


class _Look:
    """What waits for the slow app, looked at every now and then: the worst that was seen."""

    def __init__(self, stream: MediaStream, job: Job) -> None:
        self._stream, self._port, self._size = stream, job.app.slow, sizes(job.rate)[0]
        self._sent: list[tuple[float, int]] = [(time.monotonic(), 0)]  # when how many messages had left our queue
        self.queued = self.kernel_bytes = 0
        self.oldest_kernel_s = 0.0

    async def look(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._sent.append((now, self._stream.sent))
            self.queued = max(self.queued, self._stream.stats()["dropped"] - self._stream.dropped)
            unsent = machine.unsent_bytes(self._port)
            self.kernel_bytes = max(self.kernel_bytes, unsent)
            if unsent:
                gone = self._stream.sent - unsent / self._size
                oldest = next(when for when, count in self._sent if count >= gone)
                self.oldest_kernel_s = max(self.oldest_kernel_s, now - oldest)
            await asyncio.sleep(LOOK_EVERY_S)


def run(plan: Plan) -> Iterator[Line]:
    """Yield a line for each round, and the summary last. Raise `BenchError`."""
    rounds = []
    for _ in range(plan.rounds):
        watch = machine.Watch()
        with running(app.Job(RATE), Ports) as ports:
            job = Job(ports, RATE, plan.calls, plan.seconds, plan.settle_s, plan.live_s)
            one = run_process(job, Slow, 2 * plan.run_s + plan.live_s)
        rise = one.late_after_ms.p99 - one.late_before_ms.p99
        rounds.append(report.line(watch.end(), late_p99_rise_ms=rise, **msgspec.structs.asdict(one)))
        yield rounds[-1]
    yield report.summary(rounds, spread=SPREAD, middle=MIDDLE, total=("dropped",))
