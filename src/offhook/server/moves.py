"""Legs that pass from one call to another: within their media worker, or lent to a call of another one (ADR 0014).

`CallRecord.borrowed` says which legs of a call are at another worker. What is for the leg itself (to send it digits, to
end it) goes to `CallRecord.home`; what is for its place in the call (to mute it, to listen to it) to the call's worker.
"""

from __future__ import annotations

from offhook.call.model import Leg, LegState
from offhook.media import link
from offhook.server.records import CallRecord


def hand_over(leg: Leg, before: CallRecord, after: CallRecord) -> None:
    """Let a connected leg leave the mix of one call for that of another."""
    home = before.home(leg.id)
    before.borrowed.pop(leg.id, None)
    if home is not after.worker:
        after.borrowed[leg.id] = home
    if before.worker is after.worker:
        after.worker.send(link.ReseatLeg(leg.id, after.data.id))
        return
    if home is not before.worker:
        before.worker.send(link.ReturnLeg(leg.id))
        home.send(link.ReturnLeg(leg.id))
    if home is after.worker:
        home.send(link.ReseatLeg(leg.id, after.data.id))
    else:
        after.worker.send(link.BorrowLeg(leg.id, after.data.id, leg.party, home.number))
        lend(leg.id, after)


def lend(leg: str, record: CallRecord) -> None:
    """Let a borrowed leg's own worker lend it to its call."""
    home, mix = record.home(leg), link.lent_mix(record.data.id, leg)
    home.send(link.ReseatLeg(leg, mix))
    home.send(link.LendLeg(leg, mix, record.worker.number))


def give_back(record: CallRecord) -> None:
    """Whoever is not in the call any more is not lent to it any more."""
    legs = record.data.legs
    gone = [leg for leg in record.borrowed if leg not in legs or legs[leg].state is LegState.ENDED]
    for leg in gone:
        home = record.borrowed.pop(leg)
        record.worker.send(link.ReturnLeg(leg))
        home.send(link.ReturnLeg(leg))
