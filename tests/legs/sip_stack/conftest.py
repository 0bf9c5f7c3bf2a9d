"""SIP without sockets: stacks on virtual time, and a network in memory that loses, repeats and reorders as told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest

from offhook.legs.sip.events import Ended, Event, Offered
from offhook.legs.sip.flows import HostPort, UdpFlow, UdpListener
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.message import Request, Response, parse
from offhook.legs.sip.negotiation import Agreed, MediaPolicy, Negotiation
from offhook.legs.sip.outgoing import OutgoingSession
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import Settings, SipStack
from offhook.legs.sip.transport import Listen, Transports
from offhook.testing.clock import run

E = TypeVar("E", bound=Event)

PORT = 5060


class Network:
    """Packets between hosts, each late by some of `delay_s`; `loss` and `twice` are probabilities."""

    def __init__(self, seed: int = 1) -> None:
        self.loss = 0.0
        self.twice = 0.0
        self.delay_s = (0.01, 0.01)
        self.log: list[tuple[float, str, str, Request | Response]] = []  # when, from, to: all that was sent
        self.drop: Callable[[Request | Response], bool] = lambda message: False
        self._random = random.Random(seed)
        self._hosts: dict[HostPort, Callable[[bytes, HostPort], None]] = {}

    def attach(self, at: HostPort, take: Callable[[bytes, HostPort], None]) -> None:
        self._hosts[at] = take

    def send(self, data: bytes, source: HostPort, target: HostPort) -> None:
        loop = asyncio.get_running_loop()
        message = parse(data)
        self.log.append((loop.time(), source[0], target[0], message))
        if self.drop(message):
            return
        for _ in range(2 if self._random.random() < self.twice else 1):
            if self._random.random() >= self.loss:
                loop.call_later(self._random.uniform(*self.delay_s), self._deliver, data, source, target)

    def _deliver(self, data: bytes, source: HostPort, target: HostPort) -> None:
        if target in self._hosts:
            self._hosts[target](data, source)

    def sent(self, source: str = "") -> list[str]:
        """What `source` (everybody) sent, in order: methods, and codes with the methods that they answer."""
        return [_name(message) for _, sender, _, message in self.log if source in ("", sender)]


def _name(message: Request | Response) -> str:
    return message.method if isinstance(message, Request) else f"{message.code} {message.cseq.method}"


class MemoryListener(UdpListener):
    def __init__(self, transports: Transports, host: str, port: int, network: Network) -> None:
        super().__init__(transports, host)
        self.port = port
        self._network = network
        self._open = True
        network.attach((host, port), self._take)

    def _take(self, data: bytes, source: HostPort) -> None:
        self._transports.receive(data, UdpFlow(self, source))

    def close(self) -> None:
        self._open = False

    def sendto(self, data: bytes, remote: HostPort) -> None:
        if data.strip() and self._open:
            self._network.send(data, (self._host, self.port), remote)


class MemoryTransports(Transports):
    def __init__(self, network: Network, *args: Any) -> None:
        self._network = network
        super().__init__(*args)

    def _make_listener(self, listen: Listen) -> UdpListener:
        return MemoryListener(self, listen.host, listen.port, self._network)

    async def _open_udp(self, listen: Listen, listener: UdpListener) -> int:
        return listen.port


class Leg:
    """One session with its media, as the server would have it: what it was told, and what it agreed on."""

    def __init__(self, user: Telephone, session: Session, negotiation: Negotiation) -> None:
        self.user = user
        self.session = session
        self.negotiation = negotiation
        self.events: list[Event] = []
        self.agreed: Agreed | None = None

    def take(self, event: Event) -> None:
        assert not self.told(Ended), f"{event} after the end"
        self.events.append(event)
        if isinstance(event, Offered) and self.user.answers_offers:
            self.answer(event.sdp)
        sdp = getattr(event, "sdp", None)
        if sdp is not None and not isinstance(event, Offered):
            self.agreed = self.negotiation.accept(sdp)

    def answer(self, offer: str | None, hold: bool = False) -> None:
        if offer is None:
            self.session.answer(self.negotiation.offer(7000))
        else:
            sdp, self.agreed = self.negotiation.answer(offer, 7000, hold)
            self.session.answer(sdp)

    def pick_up(self) -> None:
        self.answer(self.incoming.offer)

    def reoffer(self, hold: bool = False) -> None:
        self.session.reoffer(self.negotiation.offer(7000, hold))

    @property
    def incoming(self) -> IncomingSession:
        assert isinstance(self.session, IncomingSession)
        return self.session

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> Ended:
        (event,) = self.told(Ended)
        assert event is self.events[-1]
        return event


class Telephone:
    """A host with a stack, whose user answers at once, unless told otherwise."""

    def __init__(self, network: Network, host: str, **settings: Any) -> None:
        self.host = host
        self.legs: list[Leg] = []
        self.answers = True
        self.answers_offers = True
        self.policy = MediaPolicy()
        self.stack = SipStack(
            Settings((Listen("udp", host, PORT),), **settings),
            self._invited,
            transports=partial(MemoryTransports, network),
        )

    def _invited(self, session: IncomingSession) -> None:
        leg = Leg(self, session, Negotiation(self.policy, self.host))
        session.on_event = leg.take
        self.legs.append(leg)
        if self.answers:
            leg.pick_up()

    def call(self, to: str = "100", trunk: str = "other", **more: Any) -> Leg:
        negotiation = Negotiation(self.policy, self.host)
        legs: list[Leg] = []
        session: OutgoingSession = self.stack.invite(
            to, "200", negotiation.offer(7000), lambda event: legs[0].take(event), trunk=trunk, **more
        )
        legs.append(Leg(self, session, negotiation))
        self.legs += legs
        return legs[0]


class Scene:
    """Two telephones, A and B, each the other's trunk `other`; and a network between them."""

    A, B = "192.0.2.1", "192.0.2.2"

    def __init__(self, **settings: Any) -> None:
        self.network = Network()
        self.a = self.telephone(self.A, self.B, **settings)
        self.b = self.telephone(self.B, self.A, **settings)

    def telephone(self, host: str, other: str, **settings: Any) -> Telephone:
        trunk = Trunk("other", (f"{other}/32",), f"sip:{other}:{PORT}")
        return Telephone(self.network, host, **({"trunks": (trunk,)} | settings))

    async def start(self) -> None:
        for telephone in (self.a, self.b):
            await telephone.stack.start()

    async def call(self) -> tuple[Leg, Leg]:
        """A calls B, who answers: their legs, a second later."""
        leg = self.a.call()
        await asyncio.sleep(1)
        return leg, self.b.legs[-1]

    def assert_nothing_is_left(self) -> None:
        for telephone in (self.a, self.b):
            assert telephone.stack.sessions == 0
            assert not telephone.stack._context.sessions
            assert len(telephone.stack._endpoint) == 0


Play = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture
def scene() -> Callable[..., None]:
    """Run a play on a fresh scene, on virtual time; afterwards everything is forgotten within two minutes."""

    def runs(play: Play, **settings: Any) -> None:
        async def main() -> None:
            random.seed(7)  # when offers that crossed are repeated, and registrations: what a network loses hangs on it
            one = Scene(**settings)
            await one.start()
            await play(one)
            for telephone in (one.a, one.b):
                for leg in telephone.legs:
                    leg.session.hang_up()
                for registration in telephone.stack.registrations.values():
                    registration.stop()
            await asyncio.sleep(120)
            one.assert_nothing_is_left()
            for telephone in (one.a, one.b):
                for leg in telephone.legs:
                    assert isinstance(leg.ended, Ended)
                await telephone.stack.close()

        run(main())

    return runs
