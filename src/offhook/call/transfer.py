"""Legs that leave one call for another: by a transfer, when somebody answers there, or because an app moves them.

A transfer is a call that the transferee makes. It is a `Call` of its own, whose caller is a leg that still is in the
first one, and hears and speaks there, until the target answers. Then the leg is handed over. If the target does not
answer, everybody stays as before.

    the transferee's call      control         the call to the target
    TransferParticipant ─► OpenCall ─────────► PlaceTransfer ─► Invite …
    TransferAnswered ◄─────── Tell ◄────────── answered
      ─► TransferAccepted, HandOver ─────────► LegArrived ─► they talk
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import people, referral
from offhook.call import people_messages as p
from offhook.call.model import Connection, EndCause, Invitation, Leg, LegState, Move, Shown, Transfer
from offhook.call.refusals import Refusal, Refused

if TYPE_CHECKING:
    from offhook.call.call import Call

# ------------------------------------------------------------------------------------------ the transferee's call


def transfer(call: Call, command: p.TransferParticipant) -> None:
    connection = call.established(command.asker.connection)
    leg = _transferee(call, connection, command.transferee)
    if any(transfer.leg == leg.id for transfer in call.data.transfers.values()):
        raise Refused(Refusal.TRANSFER_UNDER_WAY)
    call.data.transfers[command.call] = Transfer(leg.id, command.target, command.asker)
    first = p.PlaceTransfer(leg.id, call.data.id, command.invitation, command.target)
    shown = Shown(command.caller or leg.party, custom_context=command.custom_context)
    call.effect(p.OpenCall(command.call, shown, first))


def _transferee(call: Call, connection: Connection, wanted: str | None) -> Leg:
    """Return the leg that shall be transferred. Only phones can be: an app cannot be made to call somebody."""
    parties = {participant.party for participant in call.participants()}
    if wanted is None:
        others = parties - {connection.party}
        if len(others) != 1:
            raise Refused(Refusal.TRANSFEREE_MISSING)
        (wanted,) = others
    leg = next((leg for leg in people.connected_legs(call) if leg.party == wanted), None)
    if leg is None:
        raise Refused(Refusal.NOT_TRANSFERABLE if wanted in parties else Refusal.PARTICIPANT_NOT_FOUND)
    return leg


def answered(call: Call, report: p.TransferAnswered) -> None:
    transfer = call.data.transfers.pop(report.call)
    leg, asker = call.data.legs[transfer.leg], transfer.asker
    call.tell(asker, p.TransferAccepted(transfer.target, leg.party, asker.context))
    _hand_over(call, [leg], report.call)


def done(call: Call, report: p.TransferDone) -> None:
    transfer = call.data.transfers.pop(report.call)
    leg, asker = call.data.legs[transfer.leg], transfer.asker
    call.tell(asker, p.TransferAccepted(transfer.target, leg.party, asker.context))
    call.end_leg(leg, EndCause.REMOTE_LEFT)
    call.settle(EndCause.REMOTE_LEFT)
    call.party_left(leg.party)


def ended(call: Call, report: p.TransferEnded) -> None:
    transfer = call.data.transfers.pop(report.call)
    call.tell(transfer.asker, p.TransferFailed(report.cause, transfer.asker.context))


def leg_left(call: Call, leg: Leg) -> None:
    """The transferee has gone: there is nobody to be transferred."""
    for id, transfer in list(call.data.transfers.items()):
        if transfer.leg == leg.id:
            _abandon(call, id)


def call_ends(call: Call) -> None:
    for id in list(call.data.transfers):
        _abandon(call, id)


def _abandon(call: Call, id: str) -> None:
    asker = call.data.transfers.pop(id).asker
    call.effect(p.Tell(id, p.Abandoned()))
    call.tell(asker, p.TransferFailed(EndCause.CANCELED, asker.context))


def _hand_over(call: Call, legs: list[Leg], to: str, move: Move | None = None) -> None:
    for leg in legs:
        people.let_nobody_replace(call, leg)
    for leg in legs:
        del call.data.legs[leg.id]
        call.effect(p.HandOver(leg, to, move))
    call.settle(EndCause.REMOTE_LEFT)
    for leg in legs:
        call.party_left(leg.party)


# ------------------------------------------------------------------------------------------ the call to the target


def place(call: Call, command: p.PlaceTransfer) -> None:
    caller = Leg(command.leg, call.data.caller, LegState.RINGING, inviter=True, of_call=command.of_call)
    call.data.legs[command.leg] = caller
    call.invite(Invitation(command.invitation, command.to))


def abandoned(call: Call, report: p.Abandoned) -> None:
    call.finish(EndCause.CANCELED)


# ------------------------------------------------------------------------------------------ moving


def move_here(call: Call, command: p.MoveHere) -> None:
    call.established(command.asker.connection)
    people.check_room(call, len(command.parties))
    move = Move(command.from_connection, command.asker)
    call.effect(p.Fetch(command.parties, command.from_call, move))


def wanted(call: Call, report: p.Wanted) -> None:
    """Another call wants parties of this one."""
    legs = [leg for leg in people.connected_legs(call) if leg.party in report.parties]
    apps = {participant.party for participant in call.participants()} - {leg.party for leg in legs}
    for party in report.parties:
        if party not in {leg.party for leg in legs}:
            problem = p.MoveProblem.IS_APP if party in apps else p.MoveProblem.NOT_THERE
            call.effect(p.Tell(report.by_call, p.NotMoved(party, report.move, problem)))
    for leg in legs:
        leg_left(call, leg)
    _hand_over(call, legs, report.by_call, report.move)


def hand_all_over(call: Call, command: p.HandAllOver) -> None:
    """Two calls of one telephone become one, without it."""
    legs = [leg for leg in people.connected_legs(call) if leg.id != command.leg]
    if not legs or len(legs) == len(people.connected_legs(call)):
        raise Refused(Refusal.PARTICIPANT_NOT_FOUND)
    for leg in legs:
        leg_left(call, leg)
        leg.instead_of = command.instead_of
    _hand_over(call, legs, command.to_call)


def not_moved(call: Call, report: p.NotMoved) -> None:
    asker = report.move.asker
    event = p.MoveFailed(report.party, report.move.from_connection, report.problem, asker.context)
    call.tell(asker, event)


def arrived(call: Call, report: p.LegArrived) -> None:
    """A leg has come, by a transfer of which this is the call, or because it was moved."""
    leg, move = report.leg, report.move
    call.data.legs[leg.id] = leg
    referral.succeeded(call, leg)
    call.join_all()
    if move is not None:
        call.tell(move.asker, p.MoveSucceeded(leg.party, move.from_connection, move.asker.context))
