"""Real telephones against our stack on loopback: sipp and baresip. Without them the tests skip, or with
OFFHOOK_REQUIRE_PEERS=1 fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.legs.sip_peers.programs import LOOPBACK, PATIENCE_S, program, run_sipp

from offhook.legs.sip.events import Ended, Event, Offered, Progress
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import Agreed, MediaPolicy, Negotiation, NotAcceptable
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import Settings, SipStack
from offhook.legs.sip.transport import Listen


@pytest.fixture(scope="session")
def sipp_path() -> str:
    return program("sipp", "sip-tester")


@pytest.fixture(scope="session")
def baresip_path() -> str:
    return program("baresip", "baresip-core")


class Server:
    """Our stack, that answers every call, and keeps what it was told."""

    def __init__(self, tls: Any = None, **settings: Any) -> None:
        listen = [Listen("udp", LOOPBACK), Listen("tcp", LOOPBACK), *([Listen("tls", LOOPBACK)] if tls else [])]
        given = {"trunks": (Trunk("peer", ("127.0.0.0/8",)),)} | settings
        self.stack = SipStack(Settings(tuple(listen), **given), self._invited, tls_server=tls)
        self.sessions: list[Session] = []
        self.events: list[Event] = []
        self.agreed: list[Agreed] = []
        self.policy = MediaPolicy(("PCMU", "PCMA", "G722"))
        self.on_event: Callable[[Session, Event], None] = lambda session, event: None
        self.answers = True
        self.early = False  # whether it can be heard before it answers

    def _invited(self, session: IncomingSession) -> None:
        negotiation = Negotiation(self.policy, LOOPBACK)
        session.on_event = lambda event: self.take(session, negotiation, event)
        self.sessions.append(session)
        if self.early and session.offer is not None:
            sdp, agreed = negotiation.answer(session.offer, 7000)
            self.agreed.append(agreed)
            session.ring(sdp)
            session.answer(sdp)
            return
        session.ring()
        if self.answers:
            self._answer(session, negotiation, session.offer)

    def _answer(self, session: Session, negotiation: Negotiation, offer: str | None) -> None:
        if offer is None:
            session.answer(negotiation.offer(7000))
            return
        try:
            sdp, agreed = negotiation.answer(offer, 7000)
        except NotAcceptable as refused:
            session.hang_up(text=str(refused))
        else:
            self.agreed.append(agreed)
            session.answer(sdp)

    def take(self, session: Session, negotiation: Negotiation, event: Event) -> None:
        if isinstance(event, Progress) and self.events[-1:] == [event]:
            return  # A peer that was held up got the INVITE twice, and said it twice.
        self.events.append(event)
        if isinstance(event, Offered):
            self._answer(session, negotiation, event.sdp)
        elif (sdp := getattr(event, "sdp", None)) is not None:
            self.agreed.append(negotiation.accept(sdp))
        self.on_event(session, event)

    def call(self, to: str, **more: Any) -> Session:
        negotiation = Negotiation(self.policy, LOOPBACK)
        holder: list[Session] = []
        offer = negotiation.offer(7000)
        session = self.stack.invite(to, "200", offer, lambda event: self.take(holder[0], negotiation, event), **more)
        holder.append(session)
        self.sessions.append(session)
        return session

    async def until(self, done: Callable[[], object]) -> None:
        """Wait until `done`; fails after `PATIENCE_S`."""
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.02)

    async def all_over(self) -> None:
        await self.until(lambda: self.stack.sessions == 0)
        assert sum(isinstance(event, Ended) for event in self.events) == len(self.sessions)


@pytest.fixture
def server() -> Callable[..., Server]:
    return Server


Sipp = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
def sipp(sipp_path: str, tmp_path: Path) -> Sipp:
    """Run a scenario (one of `scenarios`, or one that sipp ships) to its end; fails unless all its calls succeeded."""

    async def runs(scenario: str, *options: str, port: int = 0) -> str:
        file = Path(__file__).parent / "scenarios" / f"{scenario}.xml"
        target = f"{LOOPBACK}:{port}" if port else ""
        return await run_sipp(sipp_path, tmp_path, file if file.exists() else scenario, target, *options, host=LOOPBACK)

    return runs
