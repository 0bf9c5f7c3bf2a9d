"""What goes into a Call and what comes out of it.

In: a `Command` (what REST or the caller API asks) or a `Report` (what a leg, a stream or a timer says).
Out: `Effect`s, carried out in order by whoever owns the Call; `Notify` carries an `Event` for the app's callback.
"""

from __future__ import annotations

from dataclasses import dataclass

from offhook.call import operation_messages as o
from offhook.call import people_messages as p
from offhook.call.model import Connection, EndCause, Participant, Release, StreamFailure, StreamOptions

# ---------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class PlaceCall:
    """A caller's leg calls `to` (caller API). The callee rings once the leg's audio path is there."""

    leg: str
    invitation: str
    to: str


@dataclass(frozen=True, slots=True)
class CreateCall:
    """An app calls `invitations` (id → raw id)."""

    connection: Connection
    invitations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An app takes an invitation."""

    invitation: str
    connection: Connection


@dataclass(frozen=True, slots=True)
class Reject:
    invitation: str
    cause: EndCause


@dataclass(frozen=True, slots=True)
class Redirect:
    """The invitation goes to `to` instead; `new_invitation` is its id from then on."""

    invitation: str
    new_invitation: str
    to: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """This app leaves; the call goes on while two parties are left."""

    connection: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """The call ends for everyone."""

    connection: str


@dataclass(frozen=True, slots=True)
class StartStream:
    connection: str
    operation_context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class StopStream:
    connection: str
    operation_context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class EndCall:
    """The operator, or the server's own end, ends the call."""

    cause: EndCause


Command = (
    PlaceCall
    | CreateCall
    | Answer
    | Reject
    | Redirect
    | HangUp
    | Terminate
    | StartStream
    | StopStream
    | EndCall
    | o.Command
    | p.Command
)

# ---------------------------------------------------------------------------------------------------- reports


@dataclass(frozen=True, slots=True)
class LegReady:
    """The leg's audio path is there: a caller may be offered, a phone rings."""

    leg: str


@dataclass(frozen=True, slots=True)
class PhoneRings:
    """A phone was found for the invitation; it rings on `leg`."""

    invitation: str
    leg: str


@dataclass(frozen=True, slots=True)
class LegAnswered:
    """A called phone picked up."""

    leg: str


@dataclass(frozen=True, slots=True)
class LegConnected:
    """The leg's audio flows."""

    leg: str


@dataclass(frozen=True, slots=True)
class LegEnded:
    """The leg is gone: hung up, declined, lost. `release`: what a telephone's signalling said of it."""

    leg: str
    cause: EndCause
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody could be asked: no phone waits under that address and no app listens for incoming calls."""

    invitation: str
    cause: EndCause = EndCause.UNREACHABLE


@dataclass(frozen=True, slots=True)
class RingTimedOut:
    invitation: str


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The app's socket is open (`again`: after it had been lost)."""

    connection: str
    epoch: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class StreamFailed:
    connection: str
    epoch: int
    failure: StreamFailure
    detail: str


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The app closed its socket cleanly: it wants no more audio."""

    connection: str
    epoch: int


Report = (
    LegReady
    | PhoneRings
    | LegAnswered
    | LegConnected
    | LegEnded
    | Unreachable
    | RingTimedOut
    | StreamOpened
    | StreamFailed
    | StreamClosed
    | o.Report
    | p.Report
)
Message = Command | Report

# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class CallConnected:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class CallDisconnected:
    cause: EndCause
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class CreateCallFailed:
    cause: EndCause
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class AnswerFailed:
    cause: EndCause
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class ParticipantsUpdated:
    participants: tuple[Participant, ...]
    sequence: int


@dataclass(frozen=True, slots=True)
class StreamingStarted:
    operation_context: str | None
    again: bool = False


@dataclass(frozen=True, slots=True)
class StreamingStopped:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class StreamingFailed:
    failure: StreamFailure
    detail: str
    operation_context: str | None


Event = (
    CallConnected
    | CallDisconnected
    | CreateCallFailed
    | AnswerFailed
    | ParticipantsUpdated
    | StreamingStarted
    | StreamingStopped
    | StreamingFailed
    | o.Event
    | p.Event
)

End = CallDisconnected | CreateCallFailed | AnswerFailed | p.AddFailed | p.ConnectFailed | p.TransferFailed
"""An event that tells of an end, or of what came to nothing, with its `cause`."""

# ---------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Invite:
    """Find `to` and let it ring: a phone by its leg, an app by an IncomingCall event."""

    invitation: str
    to: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The invitation is over: its phone stops ringing, its IncomingCall can no longer be answered."""

    invitation: str


@dataclass(frozen=True, slots=True)
class SetRingTimer:
    """Send `RingTimedOut(invitation)` after `seconds`, unless the invitation is withdrawn or answered before."""

    invitation: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ConnectLeg:
    leg: str


@dataclass(frozen=True, slots=True)
class EndLeg:
    leg: str
    cause: EndCause


@dataclass(frozen=True, slots=True)
class OpenStream:
    connection: str
    epoch: int
    options: StreamOptions


@dataclass(frozen=True, slots=True)
class CloseStream:
    connection: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Post `event` to the app that holds `connection`; to `callback` where the operation named one of its own.

    `release`: what a telephone's signalling said of the end that the event tells of.
    """

    connection: str
    event: Event
    callback: str | None = None
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class CallOver:
    """Nothing is left of the call; always the last effect."""


Effect = (
    Invite
    | Withdraw
    | SetRingTimer
    | ConnectLeg
    | EndLeg
    | OpenStream
    | CloseStream
    | Notify
    | CallOver
    | o.Effect
    | p.Effect
)
