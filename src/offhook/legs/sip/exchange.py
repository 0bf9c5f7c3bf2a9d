"""One transaction over one flow: runs its machine's timers, sends what it wants sent, and tells its user."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from offhook.legs.sip.flows import Flow
from offhook.legs.sip.headers import Via
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.transaction import (
    Deliver,
    Effect,
    Ended,
    Input,
    Kind,
    Outcome,
    Send,
    SetTimer,
    State,
    StopTimer,
    Timer,
    Transaction,
)

COOKIE = "z9hG4bK"  # with which the branches of RFC 3261 begin
LOCAL_RESPONSES = {Outcome.TIMED_OUT: 408, Outcome.UNREACHABLE: 503}


class Table(Protocol):
    """Where transactions are found by what comes for them: `endpoint.Endpoint`, as they see it."""

    product: str

    def note(self, direction: str, message: Request | Response) -> None: ...
    def remove_client(self, client: ClientTransaction) -> bool: ...
    def remove_server(self, server: ServerTransaction) -> None: ...


class Exchange(ABC):
    """What both sides have in common."""

    def __init__(self, table: Table, kind: Kind, request: Request, flow: Flow) -> None:
        self._table = table
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self.request = request
        self.flow = flow
        self._machine = Transaction(kind, request, flow.reliable)
        self._deliver: Callable[[Response], None] = lambda response: None

    @property
    def state(self) -> State:
        return self._machine.state

    def handle(self, what: Input | Response) -> None:
        """Hand the machine an input, and do what it wants done."""
        for effect in self._machine.handle(what):
            self._do(effect)

    def close(self) -> None:
        """Forget the timers."""
        for timer in Timer:
            self._stop(timer)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                self._table.note("out", message)
                send(message, self.flow, self._table.product)
            case Deliver(response):
                self._deliver(response)
            case SetTimer(timer, after):
                self._stop(timer)
                self._timers[timer] = self._loop.call_later(after, self._fire, timer)
            case StopTimer(timer):
                self._stop(timer)
            case Ended(outcome):
                self.close()
                self._ended(outcome)

    def _fire(self, timer: Timer) -> None:
        del self._timers[timer]
        self.handle(timer.value)

    def _stop(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    @abstractmethod
    def _ended(self, outcome: Outcome | None) -> None:
        """The machine is over."""


class ServerTransaction(Exchange):
    """A request that came, and has to be answered. `on_cancelled` and `on_lost` are called at most once."""

    def __init__(self, table: Table, request: Request, flow: Flow) -> None:
        super().__init__(table, Kind.INVITE_SERVER if request.method == "INVITE" else Kind.SERVER, request, flow)
        self.on_cancelled: Callable[[Request], None] = lambda request: None
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def answered(self) -> bool:
        return self.state not in (State.TRYING, State.PROCEEDING)

    def respond(self, response: Response) -> None:
        """Send a response; one after the final one is sent only if it repeats a 2xx to INVITE."""
        self.handle(response)

    def _ended(self, outcome: Outcome | None) -> None:
        self._table.remove_server(self)
        if outcome is not None:
            self.on_lost()


class ClientTransaction(Exchange):
    """A request that was sent once. `on_response` gets each response, 408 or 503 made here among them; the final one
    once, but for the 2xx to INVITE, which several phones may send, each more than once."""

    def __init__(self, table: Table, request: Request, flow: Flow, on_response: Callable[[Response], None]) -> None:
        """`request` has its Via already."""
        super().__init__(table, Kind.INVITE_CLIENT if request.method == "INVITE" else Kind.CLIENT, request, flow)
        self._deliver = on_response

    def _ended(self, outcome: Outcome | None) -> None:
        self._table.remove_client(self)
        if outcome is not None:
            self._deliver(self.request.response(LOCAL_RESPONSES[outcome]))


def new_via(flow: Flow) -> Via:
    """Return the Via of a new request over `flow`."""
    host, port = flow.sent_by
    return Via(flow.transport.upper(), host, port, {"branch": COOKIE + secrets.token_hex(8), "rport": None})


def send(message: Request | Response, flow: Flow, product: str) -> None:
    """Send a message, with the name of our product in it."""
    name = "Server" if isinstance(message, Response) else "User-Agent"
    if name not in message.headers:
        message.headers.add(name, product)
    flow.send(bytes(message))
