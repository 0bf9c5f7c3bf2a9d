"""Who speaks in the calls of a run: callers in the worker's own process, or telephones in one of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from offhook.bench import machine
from offhook.bench.calls import Calls, callers, drained, trips_ms
from offhook.bench.figures import Trips, trips
from offhook.bench.rtp_peer import Telephones, telephones


class Said(NamedTuple):
    """What became of what was said in the measured time, and of all that was said for `lost`: frames that were not
    heard back. `cpu_s`: of the load's own process, 0 where it has none."""

    frames: int
    lost: int
    rtt_ms: Trips
    cpu_s: float


class Load(Protocol):
    """The parties of all calls of a run. They speak from when `open` has returned."""

    async def open(self, calls: Calls, url: str, rate: int) -> None:
        """Begin a call for each party, one after the other."""

    async def begin(self) -> None:
        """The measured time begins."""

    async def end(self) -> Said:
        """The measured time is over."""


class Callers:
    """Callers of `offhook.bench.calls`; some of them time their frames."""

    def __init__(self, rate: int, count: int) -> None:
        self._probes, self._all = callers(rate, count)
        self._began, self._said = 0.0, 0

    async def open(self, calls: Calls, url: str, rate: int) -> None:
        await calls.open_all(self._all, url, rate)

    async def begin(self) -> None:
        self._began, self._said = time.monotonic(), sum(caller.said for caller in self._all)

    async def end(self) -> Said:
        ended, said = time.monotonic(), sum(caller.said for caller in self._all)
        lost = await drained(self._all)
        return Said(said - self._said, lost, trips(trips_ms(self._probes, self._began, ended)), 0.0)


class OverRtp:
    """Telephones of `offhook.bench.rtp_peer`, all of which time their frames."""

    def __init__(self, phones: Telephones) -> None:
        self._phones = phones
        self._cpu_s = 0.0

    async def open(self, calls: Calls, url: str, rate: int) -> None:
        for number, port in enumerate(self._phones.ports):
            keys = self._phones.keys[number] if self._phones.keys else None
            await calls.open_telephone(port, keys, url, rate)

    async def begin(self) -> None:
        await self._phones.begin()
        self._cpu_s = machine.cpu_s(self._phones.pid)

    async def end(self) -> Said:
        heard, cpu_s = await self._phones.end(), machine.cpu_s(self._phones.pid) - self._cpu_s
        # A leg sends each tick, whatever it has: what is lost comes back as something else. Packets that are under way
        # at the beginning and at the end, one a call or so, are no loss.
        lost = heard.strange + max(heard.sent - heard.received - len(self._phones.ports), 0)
        return Said(heard.sent, lost, Trips(heard.trip_p50_ms, heard.trip_p99_ms), cpu_s)


@asynccontextmanager
async def load(rate: int, calls: int, *, rtp: bool, secure: bool) -> AsyncIterator[Load]:
    """So many parties, until the context ends; over RTP, and SRTP if `secure`."""
    if not rtp:
        yield Callers(rate, calls)
        return
    async with telephones(calls, secure) as phones:
        yield OverRtp(phones)
