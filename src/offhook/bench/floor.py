"""The floor: what the sockets alone cost.

A bare loop with non-blocking sockets, a turn of which receives what is there and sends one message of the product's
size on each socket of one slot, those of streams and of RTP legs; slots are as full as the product's. No WebSocket,
JSON, base64, mask, mixing or event loop: no program in Python that carries these calls can cost much less, so the
product's cost is told as a multiple.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from offhook.audio.g711 import OCTETS_PER_FRAME
from offhook.bench import machine
from offhook.bench.app import Ports
from offhook.bench.figures import Late, late
from offhook.bench.frames import HOST, sizes
from offhook.bench.rtp_peer import telephones
from offhook.legs.udp import open_udp
from offhook.media.clock import TICK_S, Lateness
from offhook.media.dial import SEND_BUFFER
from offhook.media.plane import DEFAULT_RATE, SLOTS, Plane, Row

READ = 64 << 10  # bytes; a turn finds one message, after a stall some more
_PACKET = bytes(12 + OCTETS_PER_FRAME)  # of RTP: a header and 20 ms


class Job(msgspec.Struct, frozen=True):
    """As `product.Job`, but nothing is secure."""

    app: Ports
    rate: int
    calls: int
    seconds: float
    settle_s: float = 1.0
    rtp: bool = False


class Floor(msgspec.Struct, frozen=True):
    """What one run of the floor gave. `missed`: turns at which the echo was not there, or the socket was full."""

    cpu_ms_per_call_s: float
    app_cpu_ms_per_call_s: float
    late_ms: Late
    missed: int


def play(job: Job) -> Floor:
    """Run the loop; raise `OSError` when the app cannot be reached or closes."""
    return asyncio.run(_play(job))


async def _play(job: Job) -> Floor:
    if not job.rtp:
        return _measure(job, [])
    async with telephones(job.calls) as phones:
        return _measure(job, phones.ports)  # This blocks: nothing else is on the event loop.


def _measure(job: Job, ports: Sequence[int]) -> Floor:
    to_app, _ = sizes(job.rate)
    with ExitStack() as open_sockets:
        streams = [open_sockets.enter_context(_connect(job.app.plain)) for _ in range(job.calls)]
        legs = [open_sockets.enter_context(_connect_udp(port)) for port in ports]
        gc.collect()
        gc.freeze()
        loop = _Loop(streams, bytes(to_app), legs)
        loop.run(job.settle_s)
        cpu, app_cpu, began = machine.own_cpu_s(), machine.cpu_s(job.app.pid), time.monotonic()
        loop.missed, loop.lateness = 0, Lateness()
        loop.run(job.seconds)
        call_seconds = job.calls * (time.monotonic() - began)
        return Floor(
            cpu_ms_per_call_s=1000 * (machine.own_cpu_s() - cpu) / call_seconds,
            app_cpu_ms_per_call_s=1000 * (machine.cpu_s(job.app.pid) - app_cpu) / call_seconds,
            late_ms=late(loop.lateness),
            missed=loop.missed,
        )


def _connect(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    one.settimeout(10)
    one.connect((HOST, port))
    one.setblocking(False)
    return one


def _connect_udp(port: int) -> socket.socket:
    one = open_udp(HOST, 0)
    one.connect((HOST, port))
    return one


def slot_sizes(calls: int) -> list[int]:
    """Return how many calls the plane puts into each of its slots, of a leg and a stream each."""
    plane, nobody = Plane(0.0), _Nobody()
    for number in range(calls):
        for stream in (False, True):
            plane.add(Row(str(number), "", DEFAULT_RATE, nobody, nobody, stream=stream))
    return [len(slot.calls) for slot in plane.slots]


class _Nobody:
    def poll(self, now: float) -> None:
        """Be silent."""

    def send(self, data: bytes | memoryview) -> None:
        """Hear nothing."""


class _Loop:
    """Serves one slot after the other: its stream sockets and, where there are any, its legs' sockets."""

    def __init__(self, streams: Sequence[socket.socket], message: bytes, legs: Sequence[socket.socket]) -> None:
        """`legs`: of the same calls, in order, or none at all."""
        self._message = message
        # A call over RTP is in the slot that its packets choose, and these are spread over the tick.
        even = [len(streams) // SLOTS + (slot < len(streams) % SLOTS) for slot in range(SLOTS)]
        at, self._turns = 0, []
        for slot, size in enumerate(even if legs else slot_sizes(len(streams))):
            if size:
                offset = slot * TICK_S / SLOTS  # seconds into the tick
                self._turns.append((offset, streams[at : at + size], legs[at : at + size]))
            at += size
        self._tick = time.monotonic()  # when the current one began
        self.missed = 0
        self.lateness = Lateness()

    def run(self, seconds: float) -> None:
        """Serve each slot at its own absolute deadline, in whole ticks."""
        end = self._tick + seconds
        while self._tick < end:
            for offset, streams, legs in self._turns:
                due = self._tick + offset
                if (early := due - time.monotonic()) > 0:
                    time.sleep(early)
                self.lateness.add(max(time.monotonic() - due, 0.0))
                self._turn(legs, _PACKET)
                self._turn(streams, self._message)
            self._tick += TICK_S

    def _turn(self, sockets: Sequence[socket.socket], message: bytes) -> None:
        for one in sockets:
            try:
                if not one.recv(READ):
                    raise ConnectionError("the app closed a socket of the floor")
            except BlockingIOError:
                self.missed += 1
            try:
                one.send(message)
            except BlockingIOError:
                self.missed += 1
