"""The four transaction machines of RFC 3261 section 17, with the accepted states of RFC 6026, as tables.

A transaction is handed inputs, and answers with effects: what to send, which timer to set, what to tell its user. It
has no clock and no socket. A missing key in a table means that the input changes nothing in that state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from offhook.legs.sip.message import Request, Response

T1 = 0.5  # seconds: an estimate of the round trip
T2 = 4.0  # the longest interval between retransmissions
T4 = 5.0  # how long a message may stay in the network
PATIENCE = 64 * T1  # of B, D, F, H, J, L and M


class Kind(Enum):
    INVITE_CLIENT = auto()
    CLIENT = auto()
    INVITE_SERVER = auto()
    SERVER = auto()


class State(Enum):
    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    ACCEPTED = auto()
    TERMINATED = auto()


class Input(Enum):
    START = auto()
    PROVISIONAL = auto()  # a response: received by a client, to be sent by a server
    SUCCESS = auto()
    FAILURE = auto()
    AGAIN = auto()  # the request came once more
    ACK = auto()  # came
    RESEND = auto()  # timers A, E, G
    GIVE_UP = auto()  # timers B, F, H, L, M
    FORGET = auto()  # timers D, I, J, K
    LOST = auto()  # the transport failed


class Timer(Enum):
    RESEND = Input.RESEND
    GIVE_UP = Input.GIVE_UP
    FORGET = Input.FORGET


class Action(Enum):
    """What a table tells a transaction to do; timers that a transport without loss does not need are not set there."""

    SEND = auto()  # the last message once more, or for the first time
    SEND_ACK = auto()
    DELIVER = auto()  # the message that came
    FIRST_RESEND = auto()
    NEXT_RESEND = auto()
    SLOW_RESEND = auto()  # E while there is a provisional response: T2
    NO_RESEND = auto()
    WAIT = auto()  # GIVE_UP after 64 × T1
    NO_WAIT = auto()
    LINGER = auto()  # FORGET after the time that repeated messages may still come
    LINGER_FOR_ACK = auto()  # I
    TIME_OUT = auto()
    FAIL = auto()


class Outcome(Enum):
    TIMED_OUT = auto()
    UNREACHABLE = auto()


@dataclass(frozen=True)
class Send:
    message: Request | Response


@dataclass(frozen=True)
class Deliver:
    """Hand the response on to the transaction's user."""

    response: Response


@dataclass(frozen=True)
class SetTimer:
    """Hand `timer.value` to `handle` in so many seconds; it takes the place of the same timer, if that is set."""

    timer: Timer
    after: float


@dataclass(frozen=True)
class StopTimer:
    timer: Timer


@dataclass(frozen=True)
class Ended:
    """The transaction is over: forget it and its timers. `outcome`: why, when its user has to know."""

    outcome: Outcome | None = None


Effect = Send | Deliver | SetTimer | StopTimer | Ended
Table = dict[tuple[State, Input], tuple[State, tuple[Action, ...]]]

S, I, A = State, Input, Action  # noqa: E741 - the tables are read as the RFC's figures are

INVITE_CLIENT: Table = {  # figure 5, and RFC 6026 section 8.4
    (S.CALLING, I.START): (S.CALLING, (A.SEND, A.FIRST_RESEND, A.WAIT)),
    (S.CALLING, I.RESEND): (S.CALLING, (A.SEND, A.NEXT_RESEND)),
    (S.CALLING, I.PROVISIONAL): (S.PROCEEDING, (A.NO_RESEND, A.NO_WAIT, A.DELIVER)),
    (S.CALLING, I.SUCCESS): (S.ACCEPTED, (A.NO_RESEND, A.WAIT, A.DELIVER)),
    (S.CALLING, I.FAILURE): (S.COMPLETED, (A.NO_RESEND, A.NO_WAIT, A.SEND_ACK, A.LINGER, A.DELIVER)),
    (S.CALLING, I.GIVE_UP): (S.TERMINATED, (A.TIME_OUT,)),
    (S.CALLING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.DELIVER,)),
    (S.PROCEEDING, I.SUCCESS): (S.ACCEPTED, (A.WAIT, A.DELIVER)),
    (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.SEND_ACK, A.LINGER, A.DELIVER)),
    (S.PROCEEDING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.COMPLETED, I.FAILURE): (S.COMPLETED, (A.SEND_ACK,)),
    (S.COMPLETED, I.FORGET): (S.TERMINATED, ()),
    (S.COMPLETED, I.LOST): (S.TERMINATED, ()),
    (S.ACCEPTED, I.SUCCESS): (S.ACCEPTED, (A.DELIVER,)),
    (S.ACCEPTED, I.GIVE_UP): (S.TERMINATED, ()),
}
CLIENT: Table = {  # figure 6
    (S.TRYING, I.START): (S.TRYING, (A.SEND, A.FIRST_RESEND, A.WAIT)),
    (S.TRYING, I.RESEND): (S.TRYING, (A.SEND, A.NEXT_RESEND)),
    (S.TRYING, I.PROVISIONAL): (S.PROCEEDING, (A.SLOW_RESEND, A.DELIVER)),
    (S.TRYING, I.SUCCESS): (S.COMPLETED, (A.NO_RESEND, A.NO_WAIT, A.LINGER, A.DELIVER)),
    (S.TRYING, I.FAILURE): (S.COMPLETED, (A.NO_RESEND, A.NO_WAIT, A.LINGER, A.DELIVER)),
    (S.TRYING, I.GIVE_UP): (S.TERMINATED, (A.TIME_OUT,)),
    (S.TRYING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.PROCEEDING, I.RESEND): (S.PROCEEDING, (A.SEND, A.SLOW_RESEND)),
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.DELIVER,)),
    (S.PROCEEDING, I.SUCCESS): (S.COMPLETED, (A.NO_RESEND, A.NO_WAIT, A.LINGER, A.DELIVER)),
    (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.NO_RESEND, A.NO_WAIT, A.LINGER, A.DELIVER)),
    (S.PROCEEDING, I.GIVE_UP): (S.TERMINATED, (A.TIME_OUT,)),
    (S.PROCEEDING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.COMPLETED, I.FORGET): (S.TERMINATED, ()),
}
INVITE_SERVER: Table = {  # figure 7, and RFC 6026 section 8.7
    (S.PROCEEDING, I.AGAIN): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.SUCCESS): (S.ACCEPTED, (A.SEND, A.WAIT)),
    (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.SEND, A.FIRST_RESEND, A.WAIT)),
    (S.PROCEEDING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.COMPLETED, I.AGAIN): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.RESEND): (S.COMPLETED, (A.SEND, A.NEXT_RESEND)),
    (S.COMPLETED, I.ACK): (S.CONFIRMED, (A.NO_RESEND, A.NO_WAIT, A.LINGER_FOR_ACK)),
    (S.COMPLETED, I.GIVE_UP): (S.TERMINATED, ()),
    (S.COMPLETED, I.LOST): (S.TERMINATED, ()),
    (S.CONFIRMED, I.FORGET): (S.TERMINATED, ()),
    (S.ACCEPTED, I.SUCCESS): (S.ACCEPTED, (A.SEND,)),  # by its user, until ACK comes
    (S.ACCEPTED, I.GIVE_UP): (S.TERMINATED, ()),
}
SERVER: Table = {  # figure 8
    (S.TRYING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
    (S.TRYING, I.SUCCESS): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.TRYING, I.FAILURE): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.TRYING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.PROCEEDING, I.AGAIN): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.SUCCESS): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.SEND, A.LINGER)),
    (S.PROCEEDING, I.LOST): (S.TERMINATED, (A.FAIL,)),
    (S.COMPLETED, I.AGAIN): (S.COMPLETED, (A.SEND,)),
    (S.COMPLETED, I.FORGET): (S.TERMINATED, ()),
}
TABLES = {
    Kind.INVITE_CLIENT: (S.CALLING, INVITE_CLIENT),
    Kind.CLIENT: (S.TRYING, CLIENT),
    Kind.INVITE_SERVER: (S.PROCEEDING, INVITE_SERVER),
    Kind.SERVER: (S.TRYING, SERVER),
}


def input_of(response: Response) -> Input:
    """Return the input that a response is."""
    if not response.final:
        return Input.PROVISIONAL
    return Input.SUCCESS if response.success else Input.FAILURE


class Transaction:
    """One transaction. `reliable`: its transport loses nothing (TCP, TLS), so that little has to be repeated."""

    def __init__(self, kind: Kind, request: Request, reliable: bool) -> None:
        self.kind = kind
        self.request = request
        self.state, self._table = TABLES[kind]
        self._reliable = reliable
        self._last: Request | Response | None = request if kind in (Kind.INVITE_CLIENT, Kind.CLIENT) else None
        self._came: Response | None = None
        self._ack: Request | None = None
        self._interval = T1

    def handle(self, what: Input | Response) -> list[Effect]:
        """Apply an input, or a response (received by a client, to be sent by a server); return what is to be done."""
        response = what if isinstance(what, Response) else None
        key = self.state, input_of(response) if response else what
        if key not in self._table:
            return []
        if response and self.kind in (Kind.INVITE_CLIENT, Kind.CLIENT):
            self._came = response
        elif response:
            self._last = response
        self.state, actions = self._table[key]
        effects = [effect for action in actions if (effect := self._carry_out(action)) is not None]
        if self.state is State.TERMINATED and not any(isinstance(effect, Ended) for effect in effects):
            effects.append(Ended())
        return effects

    def _carry_out(self, action: Action) -> Effect | None:
        match action:
            case Action.SEND:
                return None if self._last is None else Send(self._last)
            case Action.SEND_ACK:
                return Send(self._acknowledgement())
            case Action.DELIVER:
                assert self._came is not None
                return Deliver(self._came)
            case Action.FIRST_RESEND | Action.NEXT_RESEND | Action.SLOW_RESEND:
                return self._resend(action)
            case Action.NO_RESEND:
                return StopTimer(Timer.RESEND)
            case Action.WAIT:
                return SetTimer(Timer.GIVE_UP, PATIENCE)
            case Action.NO_WAIT:
                return StopTimer(Timer.GIVE_UP)
            case Action.LINGER:
                return SetTimer(Timer.FORGET, 0.0 if self._reliable else self._lingering())
            case Action.LINGER_FOR_ACK:
                return SetTimer(Timer.FORGET, 0.0 if self._reliable else T4)
            case Action.TIME_OUT:
                return Ended(Outcome.TIMED_OUT)
            case Action.FAIL:
                return Ended(Outcome.UNREACHABLE)

    def _resend(self, action: Action) -> Effect | None:
        if self._reliable:
            return None
        if action is Action.SLOW_RESEND:
            self._interval = T2
        elif action is Action.NEXT_RESEND:
            doubled = 2 * self._interval
            self._interval = doubled if self.kind is Kind.INVITE_CLIENT else min(doubled, T2)
        return SetTimer(Timer.RESEND, self._interval)

    def _lingering(self) -> float:
        return T4 if self.kind is Kind.CLIENT else PATIENCE

    def _acknowledgement(self) -> Request:
        """Return the ACK of a final response that is no success (section 17.1.1.3): the same hop, the response's To."""
        assert self._came is not None
        if self._ack is None:
            ack = Request("ACK", self.request.uri)
            ack.headers.add("Via", self.request.vias[0])
            ack.headers.take(self.request.headers, "Route", "From", "Call-ID")
            ack.headers.take(self._came.headers, "To")
            ack.headers.add("CSeq", f"{self.request.cseq.number} ACK")
            ack.headers.add("Max-Forwards", 70)
            self._ack = ack
        return self._ack
