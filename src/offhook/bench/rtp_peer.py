"""The telephones of a run, in a process of their own: each sends 50 packets of μ-law a second to its leg, evenly spread
over the 20 ms, and times what comes back.

A telephone begins when it gets its first packet, and sends to where that came from: so a leg, or the floor, only has to
send to its port. Frames are numbered so that the number outlives resampling there and back: the first half of a frame
is one constant level, the second half another, and which segment of the law (the upper four bits of an octet) they are
in is the number. A trip is from packet to packet: from when a frame was handed to the kernel to when the packet with
the most of it was in the kernel's hands again. The filters' own delay, some milliseconds of audio, is not in it.

`Telephones` is the other end, in the process that measures: JSON lines over stdin and stdout.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import struct
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType

import msgspec

from offhook.audio.g711 import OCTETS_PER_FRAME
from offhook.bench.frames import HOST
from offhook.legs.udp import ANCILLARY, PACKET, age, open_udp
from offhook.media.clock import TICK_S, Lateness
from offhook.media.link import SrtpKeys

GROUPS = 20  # turns a tick, 1 ms apart
START_S = 15.0  # for the process to be ready
ANSWER_S = 5.0  # for it to answer
HIGH_AT, LOW_AT = 70, 150  # octets in the middle of each half, however long the filters take
LEVELS = [octet for octet in range(0x08, 0x100, 0x10) if octet not in (0x78, 0xF8)]  # not those of silence
NUMBERS = [high & 0xF0 | low >> 4 for high in LEVELS for low in LEVELS]  # 3.9 s of them
FRAMES = [
    bytes([high]) * (OCTETS_PER_FRAME // 2) + bytes([low]) * (OCTETS_PER_FRAME // 2)
    for high in LEVELS
    for low in LEVELS
]
HEADER = struct.Struct("!BBHII")


class Job(msgspec.Struct, frozen=True):
    """How many telephones; `keys`: with SRTP, what each of them sends and receives with."""

    legs: int
    keys: list[SrtpKeys] | None = None


class Ready(msgspec.Struct, frozen=True):
    """The process, and the port of each telephone on loopback."""

    pid: int
    ports: list[int]


class Heard(msgspec.Struct, frozen=True):
    """What all telephones sent and got since `begin`: packets, trips in milliseconds. `strange`: audio of no number."""

    sent: int
    received: int
    strange: int
    trip_p50_ms: float
    trip_p99_ms: float
    trip_max_ms: float


def number_of(payload: bytes) -> int:
    """Return the number of a frame as it comes back; of other audio, some number or other."""
    return payload[HIGH_AT] & 0xF0 | payload[LOW_AT] >> 4


# ------------------------------------------------------------------------------------------------ the process


class _Telephone:
    def __init__(self, keys: SrtpKeys | None) -> None:
        self.socket = open_udp(HOST, 0)
        self._srtp = None if keys is None else _srtp().Srtp(keys.send, keys.receive)
        self._called = False
        self._frame = random.randrange(len(FRAMES))
        self._sequence, self._ssrc = random.getrandbits(16), random.getrandbits(32)
        self._sent_at: dict[int, float] = {}  # Unix time, by number

    def turn(self, tally: _Tally) -> None:
        """Take what has come, and send a frame."""
        try:
            while True:
                packet, ancillary, _, address = self.socket.recvmsg(PACKET, ANCILLARY)
                self._take(packet, time.time() - age(ancillary), tally)
                if not self._called:
                    self._called = True
                    self.socket.connect(address)
        except (BlockingIOError, ConnectionRefusedError):
            pass  # There is no more, or the leg has ended.
        if self._called:
            self._say(tally)

    def _take(self, packet: bytes, arrived: float, tally: _Tally) -> None:
        opened = packet if self._srtp is None else self._srtp.unprotect(packet)
        tally.received += 1
        if opened is None or len(opened) != HEADER.size + OCTETS_PER_FRAME:
            tally.strange += 1
            return
        sent = self._sent_at.pop(number_of(opened[HEADER.size :]), None)
        if sent is None:
            tally.strange += 1
        else:
            tally.trips.add(max(arrived - sent, 0.0))

    def _say(self, tally: _Tally) -> None:
        self._frame = (self._frame + 1) % len(FRAMES)
        self._sequence += 1
        timestamp = self._sequence * OCTETS_PER_FRAME & 0xFFFFFFFF
        packet = HEADER.pack(0x80, 0, self._sequence & 0xFFFF, timestamp, self._ssrc) + FRAMES[self._frame]
        if self._srtp is not None:
            packet = self._srtp.protect(packet)
        self._sent_at[NUMBERS[self._frame]] = time.time()
        try:
            self.socket.send(packet)
            tally.sent += 1
        except (BlockingIOError, ConnectionRefusedError):
            pass  # It is missed where it should have come.


class _Tally:
    def __init__(self) -> None:
        self.sent = self.received = self.strange = 0
        self.trips = Lateness()

    def heard(self) -> Heard:
        p50, p99, most = (self.trips.percentile(share) for share in (0.5, 0.99, 1))
        return Heard(self.sent, self.received, self.strange, p50, p99, most)


def play(job: Job) -> None:
    """Print `Ready`, send until stdin ends; at each line there, print what was `Heard` since the last one."""
    keys: Sequence[SrtpKeys | None] = job.keys or [None] * job.legs
    telephones = [_Telephone(one) for one in keys]
    _print(Ready(os.getpid(), [one.socket.getsockname()[1] for one in telephones]))
    groups = [telephones[group::GROUPS] for group in range(GROUPS)]
    tally, turn, began = _Tally(), 0, time.monotonic()
    while True:
        due = began + turn * TICK_S / GROUPS
        if select.select([sys.stdin], [], [], max(due - time.monotonic(), 0.0))[0]:
            if not os.read(sys.stdin.fileno(), 1):
                return
            _print(tally.heard())
            tally = _Tally()
            continue
        for telephone in groups[turn % GROUPS]:
            telephone.turn(tally)
        turn += 1


def _print(answer: Ready | Heard) -> None:
    print(msgspec.json.encode(answer).decode(), flush=True)


# ------------------------------------------------------------------------------------------------ the other end


class Telephones:
    """The running process. `ports` and `keys` are for the legs: where to send, and what to send and receive with."""

    def __init__(self, process: Process, ready: Ready, keys: list[SrtpKeys] | None) -> None:
        self._process = process
        self.pid = ready.pid
        self.ports = ready.ports
        self.keys = keys

    async def begin(self) -> None:
        """Count from now on."""
        await self.end()

    async def end(self) -> Heard:
        """Return what was counted since `begin`; counting goes on from zero. Raise TimeoutError."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return msgspec.json.decode(await _line(self._process, ANSWER_S), type=Heard)


def _srtp() -> ModuleType:
    """Return the module, which needs libsrtp: only when there are keys."""
    from offhook.legs import srtp

    return srtp


@asynccontextmanager
async def telephones(legs: int, secure: bool = False) -> AsyncIterator[Telephones]:
    """So many telephones, until the context ends; `secure`: with SRTP. Raise TimeoutError when they do not start."""
    theirs = [SrtpKeys(_srtp().new_key(), _srtp().new_key()) for _ in range(legs)] if secure else None
    ours = None if theirs is None else [SrtpKeys(keys.receive, keys.send) for keys in theirs]
    command = [sys.executable, "-m", "offhook.bench", "rtp_peer", msgspec.json.encode(Job(legs, theirs)).decode()]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
    try:
        yield Telephones(process, msgspec.json.decode(await _line(process, START_S), type=Ready), ours)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: Process, within_s: float) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(within_s):
        return await process.stdout.readline()
