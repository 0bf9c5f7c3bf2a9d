"""The load of the run `bot`: stands where the server does, dials the app and sends it 50 frames a second a stream."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from pathlib import Path

import msgspec
import picows
import pybase64

from offhook.bench import machine
from offhook.bench.bot_app import Where
from offhook.bench.figures import Late, NoStream, Trips, late, trips
from offhook.bench.frames import HOST, NUMBERS, numbered_frames
from offhook.media.clock import TICK_S, Lateness
from offhook.wire import streaming

SLOTS = 10  # of a tick, in each of which some of the streams send
DRAIN_S = 0.5  # what is under way comes back
CLOSE_S = 10.0  # for all sockets to be closed


class Job(msgspec.Struct, frozen=True):
    """`streams` of `rate` Hz to the app at `app`, measured for `seconds` after `settle_s` of the same load."""

    app: Where
    rate: int
    streams: int
    seconds: float
    settle_s: float


class Load(msgspec.Struct, frozen=True):
    """What one run gave. `added_ms`: from a frame's sending to its echo's coming in, both at the load; that is two ways
    through the kernel, the app, and what keeps the load's own event loop. `waited_ms_per_call_s`: how long the app had
    something to do and no processor, which is the machine's doing. `lost`: frames without an echo."""

    cpu_ms_per_call_s: float
    waited_ms_per_call_s: float
    load_cpu_ms_per_call_s: float
    added_ms: Trips
    load_late_ms: Late
    frames: int
    lost: int


class _Stream(picows.WSListener):
    """One stream: sends messages, and times what comes back, in order."""

    def __init__(self) -> None:
        self._sent_at: deque[float] = deque()
        self.took: list[float] = []  # seconds, of the measured time
        self.sent = self.received = 0
        self.measured = False

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def say(self, message: bytes) -> None:
        self._sent_at.append(time.monotonic())
        self._transport.send(picows.WSMsgType.TEXT, message)
        self.sent += 1

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.TEXT:
            took = time.monotonic() - self._sent_at.popleft()
            self.received += 1
            if self.measured:
                self.took.append(took)
        elif frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()

    def begin(self, metadata: bytes) -> None:
        self._transport.send(picows.WSMsgType.TEXT, metadata)

    async def close(self) -> None:
        self._transport.send_close(picows.WSCloseCode.OK)
        await self._transport.wait_disconnected()


def play(job: Job) -> Load:
    """Run the load; raise `OSError` when the app cannot be reached."""
    return asyncio.run(_measure(job))


def messages(rate: int) -> list[bytes]:
    """Return numbered frames as the server sends them."""
    envelope, stamp = streaming.AudioEnvelope(None), streaming.timestamp(0)
    texts = [pybase64.b64encode(frame) for frame in numbered_frames(rate)]
    return [b"".join((envelope.head, stamp, envelope.middle, text, streaming.TAIL[0])) for text in texts]


async def _measure(job: Job) -> Load:
    streams: list[_Stream] = []
    for number in range(job.streams):
        streams.append(stream := _Stream())
        await picows.ws_connect(lambda stream=stream: stream, f"ws://{HOST}:{job.app.port}/")
        stream.begin(streaming.audio_metadata(f"stream {number}", job.rate))
    gc.collect()
    gc.freeze()
    pace = _Pace(streams, messages(job.rate))
    await pace.run(job.settle_s)
    for stream in streams:
        stream.measured = True
    pace.lateness = Lateness()
    waited = _waited_s(job.app.pid)
    began, own, theirs = time.monotonic(), machine.own_cpu_s(), machine.cpu_s(job.app.pid)
    await pace.run(job.seconds)
    call_seconds = job.streams * (time.monotonic() - began)
    own, theirs = machine.own_cpu_s() - own, machine.cpu_s(job.app.pid) - theirs
    waited = _waited_s(job.app.pid) - waited
    await asyncio.sleep(DRAIN_S)
    async with asyncio.timeout(CLOSE_S):
        await asyncio.gather(*(stream.close() for stream in streams))
    if not all(stream.received for stream in streams):
        raise NoStream("the app did not answer on every stream")
    return Load(
        cpu_ms_per_call_s=1000 * theirs / call_seconds,
        waited_ms_per_call_s=1000 * waited / call_seconds,
        load_cpu_ms_per_call_s=1000 * own / call_seconds,
        added_ms=trips([1000 * took for stream in streams for took in stream.took]),
        load_late_ms=late(pace.lateness),
        frames=sum(stream.sent for stream in streams),
        lost=sum(stream.sent - stream.received for stream in streams),
    )


def _waited_s(pid: int) -> float:
    """Return how long a process's first thread has stood in the run queue; 0 where the kernel does not count it."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except OSError:
        return 0.0


class _Pace:
    """Sends a frame on every stream each 20 ms, spread over that time, at absolute deadlines."""

    def __init__(self, streams: list[_Stream], said: list[bytes]) -> None:
        self._slots = [streams[slot::SLOTS] for slot in range(SLOTS)]
        self._said = said
        self._step = 0
        self._start = time.monotonic()
        self.lateness = Lateness()

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S) * SLOTS):
            due = self._start + self._step * TICK_S / SLOTS
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            self.lateness.add(max(time.monotonic() - due, 0.0))
            message = self._said[self._step // SLOTS % NUMBERS]
            for stream in self._slots[self._step % SLOTS]:
                stream.say(message)
            self._step += 1
