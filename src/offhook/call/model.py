"""The nouns of a call: who takes part, in which state, and how one state follows another.

Every change of state is a look-up in one of the literal tables below. A missing key means that the input does not
apply in that state: `step` raises `IllegalTransition`, and the caller decides what that means (a command is refused,
a late report is dropped).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from offhook.call.operations import Operation


class LegState(Enum):
    WAITING = "waiting"  # we know of it, its audio path is not there yet
    RINGING = "ringing"  # it rings, or (a caller) it hears the ringing
    CONNECTED = "connected"
    ENDED = "ended"


class LegInput(Enum):
    READY = "ready"
    CONNECT = "connect"
    END = "end"


class ConnectionState(Enum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class ConnectionInput(Enum):
    JOIN = "join"
    LEAVE = "leave"


class StreamState(Enum):
    DISABLED = "disabled"  # the app gave no media streaming options
    INACTIVE = "inactive"
    OPENING = "opening"  # ACS already calls this "active" (recorded: R20)
    ACTIVE = "active"


class StreamInput(Enum):
    START = "start"
    OPENED = "opened"
    REOPENED = "reopened"
    FAILED = "failed"
    STOP = "stop"
    CLOSED = "closed"  # by the app


_L, _LI = LegState, LegInput
LEG: dict[tuple[LegState, LegInput], LegState] = {
    (_L.WAITING, _LI.READY): _L.RINGING,
    (_L.WAITING, _LI.END): _L.ENDED,
    (_L.RINGING, _LI.CONNECT): _L.CONNECTED,
    (_L.RINGING, _LI.END): _L.ENDED,
    (_L.CONNECTED, _LI.END): _L.ENDED,
}

_C, _CI = ConnectionState, ConnectionInput
CONNECTION: dict[tuple[ConnectionState, ConnectionInput], ConnectionState] = {
    (_C.CONNECTING, _CI.JOIN): _C.CONNECTED,
    (_C.CONNECTING, _CI.LEAVE): _C.DISCONNECTED,
    (_C.CONNECTED, _CI.LEAVE): _C.DISCONNECTED,
}

_S, _SI = StreamState, StreamInput
STREAM: dict[tuple[StreamState, StreamInput], StreamState] = {
    (_S.INACTIVE, _SI.START): _S.OPENING,
    (_S.INACTIVE, _SI.STOP): _S.INACTIVE,
    (_S.OPENING, _SI.START): _S.OPENING,
    (_S.OPENING, _SI.OPENED): _S.ACTIVE,
    (_S.OPENING, _SI.FAILED): _S.INACTIVE,
    (_S.OPENING, _SI.STOP): _S.INACTIVE,
    (_S.OPENING, _SI.CLOSED): _S.INACTIVE,
    (_S.ACTIVE, _SI.START): _S.ACTIVE,
    (_S.ACTIVE, _SI.REOPENED): _S.ACTIVE,
    (_S.ACTIVE, _SI.FAILED): _S.INACTIVE,
    (_S.ACTIVE, _SI.STOP): _S.INACTIVE,
    (_S.ACTIVE, _SI.CLOSED): _S.INACTIVE,
}

State = TypeVar("State", bound=Enum)
Input = TypeVar("Input", bound=Enum)


class IllegalTransition(Exception):
    """`input` does not apply in `state`."""

    def __init__(self, state: Enum, input: Enum) -> None:
        super().__init__(f"{type(state).__name__} {state.value!r} has no {input.value!r}")
        self.state = state
        self.input = input


def step(table: dict[tuple[State, Input], State], state: State, input: Input) -> State:
    """Return the state that follows `state` on `input`; raise `IllegalTransition` when the table has none."""
    try:
        return table[state, input]
    except KeyError:
        raise IllegalTransition(state, input) from None


class EndCause(Enum):
    """Why a connection, a leg or an invitation came to its end."""

    HUNG_UP_BY_APP = "hung up by this app"
    ENDED_BY_OTHER_APP = "ended by an app"
    REMOTE_LEFT = "the other side hung up"
    REJECTED = "rejected by the called app"
    FORBIDDEN = "refused by the called app"
    DECLINED = "declined"
    BUSY = "busy"
    NO_ANSWER = "no answer"
    UNREACHABLE = "unreachable"
    CANCELED = "canceled"
    REMOVED = "removed by an app"
    MEDIA_LOST = "media lost"


@dataclass(frozen=True, slots=True)
class Release:
    """How signalling put it that a telephone's leg ended: SIP's status and the telephone network's cause (Q.850)."""

    sip: int
    sip_text: str
    q850: int
    q850_text: str


class StreamFailure(Enum):
    """Why a media stream could not be opened, or was given up."""

    UNREACHABLE = "unreachable"
    NO_URL = "no url"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    INTERRUPTED = "interrupted"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What the app asked for when it created or answered the call."""

    url: str
    rate: int = 16_000
    unmixed: bool = False
    bidirectional: bool = False
    dtmf: bool = False
    start: bool = False


@dataclass(slots=True)
class MediaStream:
    """A Connection's audio socket as call control sees it. `id` is the subscription id and outlives stop and start."""

    id: str
    options: StreamOptions | None
    state: StreamState
    epoch: int = 0  # counts the openings, so that a late report of an earlier one is told apart
    operation_context: str | None = None  # of the request that started it; Stopped repeats it (recorded: E3)
    callback: str | None = None


@dataclass(slots=True)
class Connection:
    """One app's hold on a Call. `party` is the app's own raw id, under which the others see it.

    `created`: made by createCall; `joined`: made by connect, which nobody sees (recorded: E11); else by answerCall.
    """

    id: str
    party: str
    callback: str
    api_version: str
    stream: MediaStream
    operation_context: str | None = None
    source: str | None = None
    source_number: str | None = None
    source_name: str | None = None
    targets: tuple[str, ...] = ()
    answered_by: str | None = None
    created: bool = False
    joined: bool = False
    state: ConnectionState = ConnectionState.CONNECTING
    sequence: int = 0  # of ParticipantsUpdated


@dataclass(frozen=True, slots=True)
class Asker:
    """Which app asked for something that ends later, and how it is told of the end."""

    connection: str
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody who is called is shown. `caller`: a raw id."""

    caller: str
    name: str = ""
    custom_context: dict[str, dict[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Addition:
    """An addParticipant that is under way. `id`: of its invitation as the app knows it, whoever it is redirected to."""

    id: str
    party: str
    asker: Asker


@dataclass(frozen=True, slots=True)
class Move:
    """A moveParticipants that is under way, from the call in which `from_connection` is."""

    from_connection: str
    asker: Asker


@dataclass(frozen=True, slots=True)
class Transfer:
    """A leg of this call, the transferee, calls `target` in another one, and leaves for that when it is answered."""

    leg: str
    target: str
    asker: Asker


@dataclass(slots=True)
class Leg:
    """One party's two-way audio path."""

    id: str
    party: str
    state: LegState
    inviter: bool = False  # the caller, as opposed to a called phone
    of_call: str | None = None  # a transferee: the call in which he is until this one is answered
    addition: Addition | None = None  # by which it comes, until it is connected
    instead_of: str | None = None  # the leg that goes when this one comes, until it is connected


@dataclass(slots=True)
class Invitation:
    """Somebody who was called and has not answered yet: a phone (it then has a leg) or an app (IncomingCall).

    `shown`, `ring_timeout`: None for what the call has. `instead_of`: the leg of a telephone that has asked for it by
    REFER, and goes when somebody comes. `dialled`: by somebody at a telephone, not by an app: it leads to no route.
    """

    id: str
    to: str
    leg: str | None = None
    shown: Shown | None = None
    ring_timeout: float | None = None
    addition: Addition | None = None
    instead_of: str | None = None
    dialled: bool = False


@dataclass(frozen=True, slots=True)
class Participant:
    """One entry of a participants list."""

    party: str
    muted: bool = False
    on_hold: bool = False


@dataclass(slots=True)
class CallData:
    """Everything a call is: plain data, so that it can travel (to a worker, to disk) as it stands."""

    id: str
    server_call_id: str
    correlation_id: str
    caller: str
    caller_name: str = ""
    ring_timeout: float = 60.0
    custom_context: dict[str, dict[str, str]] | None = None
    legs: dict[str, Leg] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
    invitations: dict[str, Invitation] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    muted: set[str] = field(default_factory=set)  # raw ids; who is on hold has an operation that says so
    transfers: dict[str, Transfer] = field(default_factory=dict)  # by id of the call in which the target rings
    locator: str | None = None  # of a group or room, which apps connect to
    over: bool = False

    @property
    def shown(self) -> Shown:
        """What those who are called are shown, unless their invitation says otherwise."""
        return Shown(self.caller, self.caller_name, self.custom_context)
