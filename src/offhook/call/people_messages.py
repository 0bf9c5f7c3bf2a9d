"""What goes into a Call and what comes out of it about who takes part; a part of `messages`.

Some of it passes between two calls of one worker: a leg that is transferred, or moved, leaves one and joins another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from offhook.call.model import Asker, Connection, EndCause, Leg, Move, Release, Shown

# ---------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class AddParticipant:
    """An app invites `to` (a raw id) into the call; he rings for `ring_timeout` seconds, or as long as others do."""

    asker: Asker
    invitation: str
    to: str
    shown: Shown
    ring_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class CancelAdd:
    """An app takes back what it asked with `AddParticipant`."""

    asker: Asker
    invitation: str


@dataclass(frozen=True, slots=True)
class RemoveParticipant:
    asker: Asker
    party: str


@dataclass(frozen=True, slots=True)
class Join:
    """An app connects to a call that is known to it: nobody is asked, and nobody sees it (recorded: E11)."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class TransferParticipant:
    """An app lets `transferee` (None: the only other one) call `target`, and leave for that call when it is answered.

    `call` and `invitation` are the ids of that call and of its invitation. `caller` (a raw id) is shown instead of the
    transferee's own.
    """

    asker: Asker
    call: str
    invitation: str
    target: str
    transferee: str | None = None
    caller: str | None = None
    custom_context: dict[str, dict[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class PlaceTransfer:
    """The first message of the call that a transferee makes: `leg` is in call `of_call` until `to` answers."""

    leg: str
    of_call: str
    invitation: str
    to: str


@dataclass(frozen=True, slots=True)
class MoveHere:
    """An app lets `parties` leave the call `from_call`, in which `from_connection` is, and come into this one."""

    asker: Asker
    parties: tuple[str, ...]
    from_connection: str
    from_call: str


@dataclass(frozen=True, slots=True)
class Refer:
    """The telephone of `leg` wants `to` (a raw id) to be called, and to take its place in the call."""

    leg: str
    invitation: str
    to: str


@dataclass(frozen=True, slots=True)
class TakePlace:
    """A telephone that calls, as `leg`, takes the place of the leg `instead_of`. Its audio path is not there yet."""

    leg: str
    instead_of: str
    party: str


@dataclass(frozen=True, slots=True)
class HandAllOver:
    """The telephone of `leg` lets all others that talk here come into `to_call`, in the place of its leg there."""

    leg: str
    to_call: str
    instead_of: str


Command = (
    AddParticipant
    | CancelAdd
    | RemoveParticipant
    | Join
    | TransferParticipant
    | PlaceTransfer
    | MoveHere
    | Refer
    | TakePlace
    | HandAllOver
)

# ----------------------------------------------------------------------------------------------------- reports


@dataclass(frozen=True, slots=True)
class TransferAnswered:
    """To the transferee's call: the target has answered in `call`."""

    call: str


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """To the transferee's call: `call` is over, and the target never answered. `release`: see `LegEnded`."""

    call: str
    cause: EndCause
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class TransferDone:
    """The transferee's own telephone system has put him through to the target of the transfer `call`."""

    call: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """To the call in which a target rings: the transferee has gone."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """To the call in which the parties are: they shall move into `by_call`."""

    parties: tuple[str, ...]
    by_call: str
    move: Move


class MoveProblem(Enum):
    """Why somebody could not be moved; `server.people_events` has the one table from here to codes and texts."""

    NOT_THERE = "no such participant in the other call"
    IS_APP = "an app cannot be moved"


@dataclass(frozen=True, slots=True)
class NotMoved:
    party: str
    move: Move
    problem: MoveProblem


@dataclass(frozen=True, slots=True)
class LegArrived:
    """A connected leg has come from another call; `move` is None when it has come by a transfer."""

    leg: Leg
    move: Move | None = None


Report = TransferAnswered | TransferEnded | TransferDone | Abandoned | Wanted | NotMoved | LegArrived

# ------------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class AddSucceeded:
    party: str
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class AddFailed:
    party: str
    cause: EndCause
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class CancelAddSucceeded:
    invitation: str
    party: str
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class CancelAddFailed:
    """There is no such invitation of this app: it was answered, has failed, or never was."""

    invitation: str
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class RemoveSucceeded:
    party: str
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    cause: EndCause
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class TransferAccepted:
    target: str
    transferee: str
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class TransferFailed:
    cause: EndCause
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class MoveSucceeded:
    party: str
    from_connection: str
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class MoveFailed:
    party: str
    from_connection: str
    problem: MoveProblem
    operation_context: str | None


Event = (
    AddSucceeded
    | AddFailed
    | CancelAddSucceeded
    | CancelAddFailed
    | RemoveSucceeded
    | ConnectFailed
    | TransferAccepted
    | TransferFailed
    | MoveSucceeded
    | MoveFailed
)

# ----------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class OpenCall:
    """Open the call that a transferee makes, and send it `first`."""

    call: str
    shown: Shown
    first: PlaceTransfer


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand `report` to another call, if it is not over."""

    call: str
    report: TransferAnswered | TransferEnded | Abandoned | NotMoved


@dataclass(frozen=True, slots=True)
class Fetch:
    """Let another call hand over its parties: `Wanted` to it, or `NotMoved` from here when it cannot be reached."""

    parties: tuple[str, ...]
    from_call: str
    move: Move


@dataclass(frozen=True, slots=True)
class HandOver:
    """The leg has left this call for another one: reseat it, and tell that call by `LegArrived`."""

    leg: Leg
    to_call: str
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class ReferralRings:
    """Tell the telephone of `leg` that whom it has referred the call to is being called."""

    leg: str


@dataclass(frozen=True, slots=True)
class ReferralEnded:
    """Tell the telephone of `leg` that somebody is there in its place; or, with `cause`, why nobody will be."""

    leg: str
    cause: EndCause | None = None


Effect = OpenCall | Tell | Fetch | HandOver | ReferralRings | ReferralEnded
