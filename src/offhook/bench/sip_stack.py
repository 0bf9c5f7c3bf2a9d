"""The SIP stack alone: what a call costs from INVITE to BYE when nothing is behind it; offer and answer included."""

from __future__ import annotations

import asyncio

import msgspec

from offhook.bench import machine, sipp
from offhook.bench.frames import HOST
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import MediaPolicy, Negotiation
from offhook.legs.sip.stack import Settings, SipStack
from offhook.legs.sip.transport import Listen

RATE = 100  # calls a second
SECONDS = 0.1  # that one takes
WARM = 50  # calls that are not counted
AUDIO = 9  # a port to which nothing is sent


class Job(msgspec.Struct, frozen=True):
    """`calls` that come, one after the other."""

    calls: int


class Alone(msgspec.Struct, frozen=True):
    """CPU time of user and system, our side only."""

    cpu_ms_per_call: float


def play(job: Job) -> Alone:
    """Raise OSError when sipp cannot do it, or not all calls came about."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> Alone:
    listen = (Listen("udp", HOST),)
    stack = SipStack(Settings(listen, trunks=(Trunk("bench", ("127.0.0.0/8",)),)), _answer)
    await stack.start()
    try:
        await sipp.place(stack.ports["udp"], WARM, SECONDS, [AUDIO], RATE)
        cpu_s = machine.own_cpu_s()
        placed = await sipp.place(stack.ports["udp"], job.calls, SECONDS, [AUDIO], RATE)
        cpu_s = machine.own_cpu_s() - cpu_s
    finally:
        await stack.close()
    if placed.failed:
        raise OSError(f"{placed.failed} of {placed.placed} calls failed")
    return Alone(1000 * cpu_s / job.calls)


def _answer(session: IncomingSession) -> None:
    assert session.offer is not None
    answer, _ = Negotiation(MediaPolicy(), HOST).answer(session.offer, AUDIO)
    session.ring()
    session.answer(answer)
