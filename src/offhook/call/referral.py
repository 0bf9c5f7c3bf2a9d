"""Somebody else takes the place of a telephone in a call, because that telephone wants it so: SIP's REFER and Replaces.

A telephone that refers the call to somebody stays in it until he is there; if he does not come, it is told why, and
nothing has changed. One that hangs up meanwhile is gone, and the call goes on as long as he is rung.

    blind            Refer ─► Invite … answered ─► the telephone goes
    attended         the other call's HandAllOver ─► LegArrived ─► the telephone goes
    INVITE/Replaces  TakePlace ─► LegReady ─► ConnectLeg ─► LegConnected ─► the telephone goes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import lifecycle, people
from offhook.call import people_messages as p
from offhook.call.model import EndCause, Invitation, Leg, LegState
from offhook.call.refusals import Refusal, Refused

if TYPE_CHECKING:
    from offhook.call.call import Call


def refer(call: Call, command: p.Refer) -> None:
    leg = _connected(call, command.leg)
    people.check_room(call)
    call.invite(Invitation(command.invitation, command.to, instead_of=leg.id, dialled=True))


def take_place(call: Call, command: p.TakePlace) -> None:
    """As soon as the new leg's audio path is there, it is answered: nobody rings."""
    before = _connected(call, command.instead_of)
    people.check_room(call)
    call.data.legs[command.leg] = Leg(command.leg, command.party, LegState.WAITING, instead_of=before.id)


def _connected(call: Call, id: str) -> Leg:
    leg = call.data.legs.get(id)
    if leg is None or leg.state is not LegState.CONNECTED:
        raise Refused(Refusal.PARTICIPANT_NOT_FOUND)
    return leg


def succeeded(call: Call, guest: Invitation | Leg) -> None:
    """Whoever came in the place of a telephone is there: that one goes, if it has not gone before."""
    place, guest.instead_of = guest.instead_of, None
    if place is None:
        return
    call.effect(p.ReferralEnded(place))
    leg = call.data.legs.get(place)
    if leg is not None and leg.state is LegState.CONNECTED:
        call.end_leg(leg, EndCause.REMOTE_LEFT)
        lifecycle.party_left(call, leg.party)


def failed(call: Call, guest: Invitation | Leg, cause: EndCause) -> None:
    place, guest.instead_of = guest.instead_of, None
    if place is not None:
        call.effect(p.ReferralEnded(place, cause))
