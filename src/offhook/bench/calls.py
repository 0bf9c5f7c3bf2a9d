"""Calls on a media worker in this process, with callers made up on the spot."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from offhook.audio.g711 import PCMU
from offhook.bench.figures import NoStream
from offhook.bench.frames import HOST, NUMBERS, numbered_frames
from offhook.legs.ports import PortRange
from offhook.legs.rtp_legs import RtpLegs
from offhook.media.dial import Dialer
from offhook.media.egress import AddressPolicy
from offhook.media.link import CloseStream, ConnectLeg, OpenRtp, OpenStream, SrtpKeys
from offhook.media.memory_link import LinkEnd, memory_pair
from offhook.media.plane import Row
from offhook.media.stream import MediaStream
from offhook.media.tidings import LegGone, LegJoined, RtpOpened, StreamDown, StreamOddity, StreamUp, Tiding
from offhook.media.worker import MediaWorker
from offhook.server.media import stay_in_time

OPENING_S = 10.0  # for one stream, or one leg, to come up
RTP_PORTS = 10_000, 32_000  # below those that the kernel hands out
PROBES = 5  # callers that time their frames, too
TRIPS = 50 * 600  # that a probe keeps: the last 10 minutes
DRAIN_S = 5.0  # for what is under way to come back, on a machine that is held up; 0.1 s is usual
DRAIN_POLL_S = 0.02


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

    def send(self, data: bytes | memoryview) -> None:
        if data[0]:
            self.heard += 1


class Probe(Caller):
    """A caller that also times each frame on its way to the app and back; no longer than 5 s may one take."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        super().__init__(frames)
        self._said_at = [0.0] * (NUMBERS + 1)
        self.trips: deque[tuple[float, float]] = deque(maxlen=TRIPS)  # when heard, and seconds since said: 50 a second

    def poll(self, now: float) -> bytes | None:
        frame = super().poll(now)
        if frame is not None:
            self._said_at[frame[0]] = time.monotonic()
        return frame

    def send(self, data: bytes | memoryview) -> None:
        super().send(data)
        if data[0]:
            heard = time.monotonic()
            self.trips.append((heard, heard - self._said_at[data[0]]))


class Listener(Caller):
    """A caller that keeps the numbers of the frames it hears, of a reply that ends with the frame `last`."""

    def __init__(self, frames: Sequence[bytes], last: int) -> None:
        super().__init__(frames)
        self._last = last
        self.numbers: list[int] = []
        self.heard_all = asyncio.Event()

    def send(self, data: bytes | memoryview) -> None:
        if data[0]:
            self.numbers.append(data[0])
            if data[0] == self._last:
                self.heard_all.set()


def callers(rate: int, count: int) -> tuple[list[Probe], list[Caller]]:
    """Return some probes, and all `count` callers: these and plain ones."""
    frames = numbered_frames(rate)
    probes = [Probe(frames) for _ in range(min(PROBES, count))]
    return probes, [*probes, *(Caller(frames) for _ in range(count - len(probes)))]


async def drained(callers: Sequence[Caller]) -> int:
    """Let all fall silent, and wait for what they said to come back; return how many frames have not in `DRAIN_S`."""
    for caller in callers:
        caller.speaks = False
    give_up_at = time.monotonic() + DRAIN_S
    while (lost := sum(caller.said - caller.heard for caller in callers)) and time.monotonic() < give_up_at:  # noqa: ASYNC110
        await asyncio.sleep(DRAIN_POLL_S)
    return lost


def trips_ms(probes: Iterable[Probe], since: float, until: float) -> list[float]:
    """Return how long the frames took, in milliseconds, that were heard from `since` until `until`."""
    return [1000 * took for probe in probes for heard, took in probe.trips if since <= heard < until]


class Calls:
    """A media worker and its calls, of one party and one stream each, in the order in which they were opened."""

    def __init__(self, worker: MediaWorker, control: LinkEnd) -> None:
        self.worker = worker
        self._control = control
        self._tidings: asyncio.Queue[Tiding] = asyncio.Queue()
        self._opened = 0
        self._rows: dict[str, Row] = {}  # of callers, by stream
        control.on_receive(self._tidings.put_nowait)

    async def open(self, caller: Caller, url: str, rate: int) -> str:
        """Begin a call, which streams both ways and into which `caller` speaks from now on; return its stream's name.
        Raise `NoStream`."""
        self._opened += 1
        order = _order(self._opened, url, rate)
        row = self._rows[order.stream] = Row(order.call, _party(self._opened), rate, caller, caller)
        self.worker.plane.add(row)
        self._control.send(order)
        await self._told(StreamUp)
        caller.speaks = True
        return order.stream

    async def open_all(self, all_: Iterable[Caller], url: str, rate: int) -> None:
        """Begin a call for each caller, one after the other; all speak from when the last one is up."""
        opened = []
        for caller in all_:
            await self.open(caller, url, rate)
            caller.speaks = False
            opened.append(caller)
        for caller in opened:
            caller.speaks = True

    async def open_telephone(self, port: int, keys: SrtpKeys | None, url: str, rate: int) -> None:
        """Begin a call with the telephone at `port` of loopback, which streams both ways. Raise `NoStream`."""
        self._opened += 1
        order, leg = _order(self._opened, url, rate), f"leg {self._opened}"
        remote = (HOST, port)
        self._control.send(OpenRtp(leg, PCMU.name, PCMU.payload_type, HOST, remote=remote, rtcp_mux=True, srtp=keys))
        await self._told(RtpOpened)
        self._control.send(order)
        await self._told(StreamUp)
        self._control.send(ConnectLeg(leg, order.call, _party(self._opened)))
        await self._told(LegJoined)

    def close(self, stream: str) -> None:
        """End the call of `stream`, which `open` began."""
        self.worker.plane.remove(self._rows.pop(stream))
        self._control.send(CloseStream(stream))

    def streams(self) -> list[MediaStream]:
        """Return the streams in the plane, in no order that means something."""
        rows = (row for slot in self.worker.plane.slots for rows in slot.calls.values() for row in rows)
        return [row.sink for row in rows if isinstance(row.sink, MediaStream)]

    def stream(self, name: str) -> MediaStream:
        """Return the stream of that name."""
        return next(stream for stream in self.streams() if stream.order.stream == name)

    def check(self) -> None:
        """Raise `NoStream` if a stream or leg went down, or anything else was odd with one."""
        while not self._tidings.empty():
            check(self._tidings.get_nowait())

    async def _told(self, kind: type[Tiding]) -> None:
        """Wait for a tiding of that kind."""
        try:
            async with asyncio.timeout(OPENING_S):
                while not isinstance(tiding := await self._tidings.get(), kind):
                    check(tiding)
                check(tiding)
        except TimeoutError:
            raise NoStream(f"no {kind.__name__} within {OPENING_S:g} s") from None


def check(tiding: Tiding) -> None:
    """Raise `NoStream` if `tiding` is none that a run in which nothing goes wrong has."""
    match tiding:
        case StreamDown(detail=detail):
            raise NoStream(detail)
        case LegGone(reason=reason):
            raise NoStream(reason)
        case StreamUp(again=True) | StreamOddity():
            raise NoStream(f"something odd happened to a stream: {tiding}")


@asynccontextmanager
async def media_worker(ca: str | None = None) -> AsyncIterator[Calls]:
    """A worker as the server runs it, which trusts the certificates in the file `ca`; its calls end with the context.

    Raise `NoStream` at the end if a stream was not there all the time.
    """
    control, end = memory_pair()
    loop = asyncio.get_running_loop()
    trust = ssl.create_default_context(cafile=ca)
    worker = MediaWorker(end, Dialer(AddressPolicy(allow_private=True), trust), epoch=time.time() - loop.time())
    legs = RtpLegs(worker, PortRange(*RTP_PORTS))
    worker.start()
    calls = Calls(worker, control)
    stay_in_time()
    try:
        yield calls
        calls.check()
    finally:
        legs.close()
        await worker.close()


def _party(number: int) -> str:
    return f"4:+1555{number:07}"


def _order(number: int, url: str, rate: int) -> OpenStream:
    return OpenStream(
        stream=f"stream {number}",
        call=f"call {number}",
        connection=f"connection {number}",
        correlation=f"correlation {number}",
        subscription=f"subscription {number}",
        party=f"8:bench:{number}",
        url=url,
        token="bench",
        rate=rate,
        unmixed=False,
        bidirectional=True,
        dtmf=False,
    )
