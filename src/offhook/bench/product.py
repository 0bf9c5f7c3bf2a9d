"""The product under load: one media worker in this process, as the server runs it, with parties made up on the spot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean

import msgspec

from offhook.bench import machine
from offhook.bench.app import Ports
from offhook.bench.calls import media_worker
from offhook.bench.figures import Late, Trips, Window
from offhook.bench.load import load


class Job(msgspec.Struct, frozen=True):
    """`calls` streams of `rate` Hz to the app at `app`, measured for `seconds` after `settle_s` of the same load.

    `ca`: the file with the app's CA; the streams are then wss. `rtp`: with telephones; with `ca` their RTP is SRTP.
    """

    app: Ports
    rate: int
    calls: int
    seconds: float
    settle_s: float = 1.0
    ca: str | None = None
    rtp: bool = False


class Product(msgspec.Struct, frozen=True):
    """What one run of the media worker gave.

    In the measured time: `frames_expected`, what callers said or would have said in 20 ms turns × calls that the clock
    jumped over, `frames_left_out`; `frames_sent`, messages to the app. `frames_lost`: what was said and not heard back;
    `underruns`, times that a stream's playout ran dry. `load_cpu_ms_per_call_s`: of the telephones' process.
    """

    cpu_ms_per_call_s: float
    app_cpu_ms_per_call_s: float
    load_cpu_ms_per_call_s: float
    late_ms: Late
    rtt_ms: Trips
    rss_kib_per_call: float
    frames_expected: int
    frames_sent: int
    frames_left_out: int
    frames_lost: int
    underruns: int


def play(job: Job) -> Product:
    """Run the load and return what it cost; raise `NoStream` when a stream is not there all the time."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Product:
    secure = job.ca is not None
    rss = machine.rss_kib()
    async with load(job.rate, job.calls, rtp=job.rtp, secure=secure) as parties, media_worker(job.ca) as calls:
        await parties.open(calls, job.app.url(secure=secure), job.rate)
        streams, clock = calls.streams(), calls.worker.clock
        await asyncio.sleep(job.settle_s)
        await parties.begin()
        sent, jumped = sum(stream.sent for stream in streams), clock.jumped
        window = Window(clock, job.app.pid)
        await asyncio.sleep(job.seconds)
        cost = window.end()
        sent, left_out = sum(stream.sent for stream in streams) - sent, (clock.jumped - jumped) * job.calls
        rss = machine.rss_kib() - rss
        said = await parties.end()
        underruns = sum(stream.playout.underruns for stream in streams)
    call_seconds = job.calls * cost.seconds
    return Product(
        cpu_ms_per_call_s=1000 * cost.cpu_s / call_seconds,
        app_cpu_ms_per_call_s=1000 * cost.app_cpu_s / call_seconds,
        load_cpu_ms_per_call_s=1000 * said.cpu_s / call_seconds,
        late_ms=cost.late_ms,
        rtt_ms=said.rtt_ms,
        rss_kib_per_call=rss / job.calls,
        frames_expected=said.frames + left_out,
        frames_sent=sent,
        frames_left_out=left_out,
        frames_lost=said.lost,
        underruns=underruns,
    )


def together(workers: Sequence[Product]) -> Product:
    """Return the figures of workers with the same number of calls as if they were one: costs are means, delays those
    of the worst worker, counts sums."""
    late, rtt = [one.late_ms for one in workers], [one.rtt_ms for one in workers]
    return Product(
        cpu_ms_per_call_s=fmean(one.cpu_ms_per_call_s for one in workers),
        app_cpu_ms_per_call_s=fmean(one.app_cpu_ms_per_call_s for one in workers),
        load_cpu_ms_per_call_s=fmean(one.load_cpu_ms_per_call_s for one in workers),
        late_ms=Late(max(x.p50 for x in late), max(x.p99 for x in late), max(x.max for x in late)),
        rtt_ms=Trips(max(x.p50 for x in rtt), max(x.p99 for x in rtt)),
        rss_kib_per_call=fmean(one.rss_kib_per_call for one in workers),
        frames_expected=sum(one.frames_expected for one in workers),
        frames_sent=sum(one.frames_sent for one in workers),
        frames_left_out=sum(one.frames_left_out for one in workers),
        frames_lost=sum(one.frames_lost for one in workers),
        underruns=sum(one.underruns for one in workers),
    )
