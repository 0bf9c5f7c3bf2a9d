"""The floor: what the sockets alone cost.

A bare loop with non-blocking sockets, a turn of which receives what is there and sends one message of the product's
size on each socket of one slot; slots are as full as the product's. No WebSocket, JSON, base64, mask, mixing or event
loop: no program in Python that carries these calls can cost much less, so the product's cost is told as a multiple.
"""

from __future__ import annotations

import gc
import socket
import time
from itertools import islice

from offhook.bench import machine
from offhook.bench.work import HOST, Floor, Late, Work, sizes
from offhook.media.clock import TICK_S, Lateness
from offhook.media.dial import SEND_BUFFER
from offhook.media.plane import DEFAULT_RATE, SLOTS, Plane, Row

READ = 64 << 10  # bytes; a turn finds one message, after a stall some more


def measure(work: Work) -> Floor:
    """Run the loop; raise `OSError` when the app cannot be reached or closes."""
    to_app, _ = sizes(work.rate)
    sockets = [_connect(work.ports.plain) for _ in range(work.calls)]
    gc.collect()
    gc.freeze()
    loop = _Loop(sockets, bytes(to_app))
    loop.run(work.settle_s)
    cpu, app_cpu, began = machine.own_cpu_s(), machine.cpu_s(work.ports.pid), time.monotonic()
    loop.missed, loop.lateness = 0, Lateness()
    loop.run(work.seconds)
    call_seconds = work.calls * (time.monotonic() - began)
    result = Floor(
        cpu_ms_per_call_s=1000 * (machine.own_cpu_s() - cpu) / call_seconds,
        app_cpu_ms_per_call_s=1000 * (machine.cpu_s(work.ports.pid) - app_cpu) / call_seconds,
        late_ms=Late(*(loop.lateness.percentile(share) for share in (0.5, 0.99, 1))),
        missed=loop.missed,
    )
    for one in sockets:
        one.close()
    return result


def _connect(port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    one.settimeout(10)
    one.connect((HOST, port))
    one.setblocking(False)
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

    def send(self, data: bytes) -> None:
        """Hear nothing."""


class _Loop:
    def __init__(self, sockets: list[socket.socket], message: bytes) -> None:
        rest = iter(sockets)
        slots = [list(islice(rest, size)) for size in slot_sizes(len(sockets))]
        self._turns = [(i * TICK_S / SLOTS, slot) for i, slot in enumerate(slots) if slot]  # seconds into the tick
        self._message = message
        self._tick = time.monotonic()  # when the current one began
        self.missed = 0
        self.lateness = Lateness()

    def run(self, seconds: float) -> None:
        """Serve one slot after the other, each at its own absolute deadline, in whole ticks."""
        end = self._tick + seconds
        while self._tick < end:
            for offset, sockets in self._turns:
                due = self._tick + offset
                if (early := due - time.monotonic()) > 0:
                    time.sleep(early)
                self.lateness.add(max(time.monotonic() - due, 0.0))
                self._turn(sockets)
            self._tick += TICK_S

    def _turn(self, sockets: list[socket.socket]) -> None:
        message = self._message
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
