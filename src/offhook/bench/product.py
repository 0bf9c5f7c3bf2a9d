"""The product under load: one media worker in this process, as the server runs it, with callers made up on the spot."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from offhook.audio import pcm
from offhook.bench import machine
from offhook.bench.work import HOST, Late, Product, Sticky, Trips, Work
from offhook.media.clock import Lateness
from offhook.media.dial import Dialer
from offhook.media.egress import AddressPolicy
from offhook.media.link import OpenStream, StreamDown, StreamUp, Tiding, memory_pair
from offhook.media.plane import Plane, Row
from offhook.media.stream import MediaStream
from offhook.media.worker import MediaWorker

NUMBERS = 255  # frames are numbered 1 to 255 in their first byte; digital silence has a 0 there
PROBES = 5  # callers that time their frames, too
TONE_HZ = 440  # a whole number of periods in the 5.1 s of 255 frames
OPENING_S = 10.0  # for one stream to come up
DRAIN_S = 0.5  # at the end: what is under way comes back
STALL_S = 0.2
STICKY_CALLS = 2


class NoStream(Exception):
    """A stream did not come up, or went down during a run."""


def numbered_frames(rate: int) -> list[bytes]:
    """Return `NUMBERS` frames of a tone, each with its number in its first byte."""
    samples = pcm.tone(TONE_HZ, rate, NUMBERS * pcm.FRAME_MS / 1000)
    frames = [frame.tobytes() for frame in np.split(samples.astype("<i2"), NUMBERS)]
    return [bytes([number]) + frame[1:] for number, frame in enumerate(frames, 1)]


class Caller:
    """A party in this process, Source and Sink of its row: says numbered frames, counts those it hears back."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = frames
        self.speaks = False
        self.said = self.heard = 0

    def poll(self, now: float) -> bytes | None:
        if not self.speaks:
            return None
        self.said += 1
        return self._frames[self.said % NUMBERS]

    def send(self, data: bytes) -> None:
        if data[0]:
            self.heard += 1


class Probe(Caller):
    """A caller that also times each frame on its way to the app and back; no longer than 5 s may one take."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        super().__init__(frames)
        self._said_at = [0.0] * (NUMBERS + 1)
        self.trips: list[tuple[float, float]] = []  # when heard, and seconds since said: 50 a second

    def poll(self, now: float) -> bytes | None:
        frame = super().poll(now)
        if frame is not None:
            self._said_at[frame[0]] = time.monotonic()
        return frame

    def send(self, data: bytes) -> None:
        super().send(data)
        if data[0]:
            heard = time.monotonic()
            self.trips.append((heard, heard - self._said_at[data[0]]))


def trips_ms(probes: Sequence[Probe], since: float, until: float) -> list[float]:
    """Return how long the frames took, in milliseconds, that were heard from `since` until `until`."""
    return [1000 * took for probe in probes for heard, took in probe.trips if since <= heard < until]


def percentiles(values: Sequence[float], *percents: float) -> list[float]:
    """Return the percentiles; raise `NoStream` when there are no values, as no frame came back."""
    if not values:
        raise NoStream("no frame of a caller came back from the app")
    return [float(value) for value in np.percentile(values, percents)]


@asynccontextmanager
async def calls(work: Work, callers: Sequence[Caller]) -> AsyncIterator[MediaWorker]:
    """A worker with a call for each caller, streaming both ways and spoken into; they end with the context."""
    control, end = memory_pair()
    loop = asyncio.get_running_loop()
    dialer = Dialer(AddressPolicy(allow_private=True), ssl.create_default_context())
    worker = MediaWorker(end, dialer, epoch=time.time() - loop.time())
    worker.start()
    tidings: asyncio.Queue[Tiding] = asyncio.Queue()
    control.on_receive(tidings.put_nowait)
    # As the server does at its start.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        for number, caller in enumerate(callers):
            order = _order(work, number)
            worker.plane.add(Row(order.call, f"4:+1555{number:07}", work.rate, caller, caller))
            control.send(order)
            async with asyncio.timeout(OPENING_S):
                _check(await tidings.get())
        for caller in callers:
            caller.speaks = True
        yield worker
        while not tidings.empty():
            _check(tidings.get_nowait())
    finally:
        await worker.close()


def _order(work: Work, number: int) -> OpenStream:
    return OpenStream(
        stream=f"stream {number}",
        call=f"call {number}",
        connection=f"connection {number}",
        correlation=f"correlation {number}",
        subscription=f"subscription {number}",
        party=f"8:bench:{number}",
        url=f"ws://{HOST}:{work.ports.websocket}/",
        token="bench",
        rate=work.rate,
        unmixed=False,
        bidirectional=True,
        dtmf=False,
    )


def _check(tiding: Tiding) -> None:
    match tiding:
        case StreamUp(again=False):
            pass
        case StreamDown(detail=detail):
            raise NoStream(detail)
        case _:
            raise NoStream(f"something odd happened to a stream: {tiding}")


def _streams(plane: Plane) -> list[MediaStream]:
    rows = (row for slot in plane.slots for rows in slot.calls.values() for row in rows)
    return [row.sink for row in rows if isinstance(row.sink, MediaStream)]


async def measure(work: Work) -> Product:
    """Run the load and return what it cost; raise `NoStream` when a stream is not there all the time."""
    rss = machine.rss_kib()
    frames = numbered_frames(work.rate)
    probes = [Probe(frames) for _ in range(min(PROBES, work.calls))]
    callers = [*probes, *(Caller(frames) for _ in range(work.calls - len(probes)))]
    async with calls(work, callers) as worker:
        streams = _streams(worker.plane)
        clock = worker.clock

        def counts() -> tuple[int, int, int]:
            return (
                sum(caller.said for caller in callers),
                sum(stream.sent for stream in streams),
                clock.jumped * work.calls,
            )

        await asyncio.sleep(work.settle_s)
        clock.lateness = Lateness()
        counted = counts()
        began, cpu, app_cpu = time.monotonic(), machine.own_cpu_s(), machine.cpu_s(work.ports.pid)
        await asyncio.sleep(work.seconds)
        ended, cpu, app_cpu = time.monotonic(), machine.own_cpu_s() - cpu, machine.cpu_s(work.ports.pid) - app_cpu
        said, sent, left_out = (now - then for now, then in zip(counts(), counted, strict=True))
        late = Late(*(clock.lateness.percentile(share) for share in (0.5, 0.99, 1)))
        rss = machine.rss_kib() - rss
        for caller in callers:
            caller.speaks = False
        await asyncio.sleep(DRAIN_S)
        lost = sum(caller.said - caller.heard for caller in callers)
        underruns = sum(stream.playout.underruns for stream in streams)
    call_seconds = work.calls * (ended - began)
    return Product(
        cpu_ms_per_call_s=1000 * cpu / call_seconds,
        app_cpu_ms_per_call_s=1000 * app_cpu / call_seconds,
        late_ms=late,
        rtt_ms=Trips(*percentiles(trips_ms(probes, began, ended), 50, 99)),
        rss_kib_per_call=rss / work.calls,
        frames_expected=said + left_out,
        frames_sent=sent,
        frames_left_out=left_out,
        frames_lost=lost,
        underruns=underruns,
    )


async def measure_sticky(work: Work) -> Sticky:
    """Stall the app for 200 ms under a few live calls; return how much later frames still come 1 s afterwards."""
    frames = numbered_frames(work.rate)
    probes = [Probe(frames) for _ in range(STICKY_CALLS)]
    async with calls(work, probes):
        await asyncio.sleep(work.live_s)
        stalled = time.monotonic()
        os.kill(work.ports.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(STALL_S)
        finally:
            os.kill(work.ports.pid, signal.SIGCONT)
        resumed = time.monotonic()
        await asyncio.sleep(1.5)
    (before,) = percentiles(trips_ms(probes, stalled - 1, stalled), 50)
    (after,) = percentiles(trips_ms(probes, resumed + 1, resumed + 1.5), 50)
    return Sticky(after - before)
