"""What events about who takes part are on the wire: their codes, texts and keys (contract 3.3, recorded 6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offhook.call import people_messages as p
from offhook.call.model import EndCause
from offhook.wire import events, participants
from offhook.wire.events import ResultInformation

KINDS: Mapping[type, str] = {
    p.AddSucceeded: "AddParticipantSucceeded",
    p.AddFailed: "AddParticipantFailed",
    p.CancelAddSucceeded: "CancelAddParticipantSucceeded",
    p.CancelAddFailed: "CancelAddParticipantFailed",
    p.RemoveSucceeded: "RemoveParticipantSucceeded",
    p.ConnectFailed: "ConnectFailed",
    p.TransferAccepted: "CallTransferAccepted",
    p.TransferFailed: "CallTransferFailed",
    p.MoveSucceeded: "MoveParticipantSucceeded",
    p.MoveFailed: "MoveParticipantFailed",
}

END: Mapping[EndCause, ResultInformation] = {
    EndCause.HUNG_UP_BY_APP: events.ENDED_BY_APP,
    EndCause.ENDED_BY_OTHER_APP: events.ENDED_BY_OTHER_APP,
    EndCause.REMOTE_LEFT: events.ENDED_BY_REMOTE,
    EndCause.REMOVED: events.ENDED_BY_REMOTE,  # recorded: E8
    EndCause.REJECTED: events.ENDED_BY_REMOTE,  # recorded: E6
    EndCause.FORBIDDEN: ResultInformation(403, 8538, "The callee refused the call. DiagCode: 403#8538.@"),
    EndCause.DECLINED: ResultInformation(603, 8538, "The callee declined the call. DiagCode: 603#8538.@"),
    EndCause.BUSY: ResultInformation(486, 8539, "The callee is busy. DiagCode: 486#8539.@"),
    EndCause.NO_ANSWER: ResultInformation(
        480, 8587, "The callee did not answer within the ring time. DiagCode: 480#8587.@"
    ),
    EndCause.UNREACHABLE: ResultInformation(
        480, 8541, "Nobody can be reached under this address. DiagCode: 480#8541.@"
    ),
    EndCause.CANCELED: ResultInformation(487, 8542, "The call was canceled. DiagCode: 487#8542.@"),
    EndCause.MEDIA_LOST: ResultInformation(500, 8544, "The audio path to the party was lost. DiagCode: 500#8544.@"),
}

MOVE: Mapping[p.MoveProblem, ResultInformation] = {
    p.MoveProblem.NOT_THERE: ResultInformation(404, 8522, "There is no such participant in the call to move from."),
    p.MoveProblem.IS_APP: ResultInformation(400, 8585, "The participant is an app, which cannot be moved."),
}

NOT_PENDING = ResultInformation(404, 8522, "There is no such invitation: it was answered, has failed, or never was.")


def describe(event: p.Event) -> tuple[ResultInformation, dict[str, Any]]:
    """Return the event's result and the data keys that only its kind has."""
    match event:
        case p.AddSucceeded(party) | p.RemoveSucceeded(party):
            return events.SUCCESS, participants.participant(party)
        case p.AddFailed(party, cause):
            return END[cause], participants.participant(party)
        case p.CancelAddSucceeded(invitation, party):
            return events.add_canceled(party), participants.invitation(invitation)
        case p.CancelAddFailed(invitation):
            return NOT_PENDING, participants.invitation(invitation)
        case p.ConnectFailed(cause) | p.TransferFailed(cause):
            return END[cause], {}
        case p.TransferAccepted(target, transferee):
            return events.SUCCESS, participants.transfer(target, transferee)
        case p.MoveSucceeded(party, from_call):
            return events.SUCCESS, participants.moved(party, from_call)
        case p.MoveFailed(party, from_call, problem):
            return MOVE[problem], participants.moved(party, from_call)
