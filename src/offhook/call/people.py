"""Who is asked into a call and out of it: participants are added and removed, and apps connect.

An addition is an invitation that knows who asked for it. It ends, for the app that asked, when the one invited is in
the call, when nobody answers, or when the app takes it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import people_messages as p
from offhook.call.model import Addition, ConnectionState, EndCause, Invitation, Leg, LegState
from offhook.call.refusals import Refusal, Refused

if TYPE_CHECKING:
    from offhook.call.call import Call

MAX_PARTICIPANTS = 100  # of one call, with those who are invited and apps that nobody sees
MAX_LEFT = 50  # of those who have left a call, of whom it still knows

# ------------------------------------------------------------------------------------------ adding


def add(call: Call, command: p.AddParticipant) -> None:
    call.established(command.asker.connection)
    check_room(call)
    _forget_left(call)
    call.invite(
        Invitation(
            command.invitation,
            command.to,
            shown=command.shown,
            ring_timeout=command.ring_timeout,
            addition=Addition(command.invitation, command.to, command.asker),
        )
    )


def cancel(call: Call, command: p.CancelAdd) -> None:
    """Take an invitation back: the app hears that, and not that the addition has failed (recorded: E9)."""
    call.established(command.asker.connection)
    invitation = _pending(call, command)
    if invitation is None:
        call.tell(command.asker, p.CancelAddFailed(command.invitation, command.asker.context))
        return
    addition, invitation.addition = invitation.addition, None
    assert addition is not None
    call.tell(command.asker, p.CancelAddSucceeded(command.invitation, addition.party, command.asker.context))
    call.give_up(invitation.id, EndCause.CANCELED)


def _pending(call: Call, command: p.CancelAdd) -> Invitation | None:
    for invitation in call.data.invitations.values():
        addition = invitation.addition
        if addition is not None and addition.id == command.invitation:
            return invitation if addition.asker.connection == command.asker.connection else None
    return None


def added(call: Call, guest: Invitation | Leg) -> None:
    """Whoever was invited is in the call; the app that asked for it, if one did, is told."""
    addition, guest.addition = guest.addition, None
    if addition is not None:
        call.tell(addition.asker, p.AddSucceeded(addition.party, addition.asker.context))


def not_added(call: Call, guest: Invitation | Leg, cause: EndCause) -> None:
    """Nobody answers, or he was gone before he was connected."""
    addition, guest.addition = guest.addition, None
    if addition is not None:
        call.tell(addition.asker, p.AddFailed(addition.party, cause, addition.asker.context))


# ------------------------------------------------------------------------------------------ removing


def remove(call: Call, command: p.RemoveParticipant) -> None:
    call.established(command.asker.connection)
    legs = [leg for leg in connected_legs(call) if leg.party == command.party]
    apps = [
        each
        for each in call.data.connections.values()
        if each.party == command.party and each.state is ConnectionState.CONNECTED and not each.joined
    ]
    if not legs and not apps:
        raise Refused(Refusal.PARTICIPANT_NOT_FOUND)
    call.tell(command.asker, p.RemoveSucceeded(command.party, command.asker.context))
    for leg in legs:
        let_nobody_replace(call, leg)
        call.end_leg(leg, EndCause.REMOVED)
    for app in apps:
        call.leave(app, EndCause.REMOVED)
    call.settle(EndCause.REMOTE_LEFT)
    call.party_left(command.party)


def let_nobody_replace(call: Call, leg: Leg) -> None:
    """A telephone is taken out of the call: whoever is rung to come in its place is rung no more."""
    for invitation in list(call.data.invitations.values()):
        if invitation.instead_of == leg.id:
            call.give_up(invitation.id, EndCause.CANCELED)


def connected_legs(call: Call) -> list[Leg]:
    return [leg for leg in call.data.legs.values() if leg.state is LegState.CONNECTED]


# ------------------------------------------------------------------------------------------ connecting


def join(call: Call, command: p.Join) -> None:
    """An app is in the call at once, or, when that still rings, with the others."""
    check_room(call)
    _forget_left(call)
    call.data.connections[command.connection.id] = command.connection
    talking = any(each.state is ConnectionState.CONNECTED for each in call.data.connections.values())
    if call.data.locator is not None or talking or connected_legs(call):
        call.join_all()


# ------------------------------------------------------------------------------------------ bounds


def check_room(call: Call, wanted: int = 1) -> None:
    """Raise `Refused` when the call has no room for so many more."""
    data = call.data
    legs = sum(leg.state is not LegState.ENDED for leg in data.legs.values())
    apps = sum(app.state is not ConnectionState.DISCONNECTED for app in data.connections.values())
    calling = sum(invitation.leg is None for invitation in data.invitations.values())
    if legs + apps + calling + wanted > MAX_PARTICIPANTS:
        raise Refused(Refusal.CALL_FULL)


def _forget_left(call: Call) -> None:
    """Know of the newest MAX_LEFT of those who have left, so that a call in which people come and go stays small."""
    data = call.data
    for leg in [leg.id for leg in data.legs.values() if leg.state is LegState.ENDED][:-MAX_LEFT]:
        del data.legs[leg]
    gone = [app.id for app in data.connections.values() if app.state is ConnectionState.DISCONNECTED]
    for app in gone[:-MAX_LEFT]:
        del data.connections[app]
