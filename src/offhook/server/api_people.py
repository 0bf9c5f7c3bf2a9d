"""Who takes part: participants are shown, added, removed, transferred and moved (contract 2.3 #9 to #16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from offhook.call import people_messages as p
from offhook.call.model import Asker, Participant, Shown
from offhook.server.repeats import Answer
from offhook.server.requests import ApiError, raw_id
from offhook.wire import media, participants, rest

if TYPE_CHECKING:
    from offhook.server.api import Api, Asked

# ------------------------------------------------------------------------------------------ who is there


def _list(api: Api, asked: Asked) -> Answer:
    call, connection = api.control.connection(asked.path["callConnectionId"])
    members = [_whole(each) for each in api.control.participants(connection.id)]
    return Answer(rest.encode(rest.ParticipantList(members)), call.correlation_id)


def _get(api: Api, asked: Asked) -> Answer:
    call, connection = api.control.connection(asked.path["callConnectionId"])
    for participant in api.control.participants(connection.id):
        if participant.party == asked.path["participantRawId"]:
            return Answer(rest.encode(_whole(participant)), call.correlation_id)
    raise ApiError(404, "8522", "Participant not found.")


def _whole(participant: Participant) -> rest.CallParticipant:
    return rest.CallParticipant(rest.identifier(participant.party), participant.muted, participant.on_hold)


# ------------------------------------------------------------------------------------------ adding and removing


def _add(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(participants.AddParticipantRequest, asked.body)
    asker = _asker(api, asked, wanted)
    _, connection = api.control.connection(asker.connection)
    to, timeout = raw_id(wanted.participant_to_add, "participantToAdd"), wanted.invitation_timeout_in_seconds
    caller = _number(wanted.source_caller_id_number) or connection.party
    shown = Shown(caller, wanted.source_display_name or "", _context(wanted.custom_calling_context))
    invitation = _id(api, asked)
    command = p.AddParticipant(asker, invitation, to, shown, None if timeout is None else float(timeout))
    participant = rest.CallParticipant(rest.identifier(to), False, False)
    body = participants.AddParticipantResponse(participant, wanted.operation_context, invitation)
    return _answer(api, asked, command, body)


def _cancel_add(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(participants.CancelAddParticipantRequest, asked.body)
    command = p.CancelAdd(_asker(api, asked, wanted), wanted.invitation_id)
    body = participants.CancelAddParticipantResponse(wanted.invitation_id, wanted.operation_context)
    return _answer(api, asked, command, body)


def _remove(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(participants.RemoveParticipantRequest, asked.body)
    party = raw_id(wanted.participant_to_remove, "participantToRemove")
    command = p.RemoveParticipant(_asker(api, asked, wanted), party)
    return _answer(api, asked, command, participants.RemoveParticipantResponse(wanted.operation_context))


# ------------------------------------------------------------------------------------------ to other calls


def _transfer(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(participants.TransferToParticipantRequest, asked.body)
    command = p.TransferParticipant(
        _asker(api, asked, wanted),
        call=_id(api, asked),
        invitation=_id(api, asked),
        target=raw_id(wanted.target_participant, "targetParticipant"),
        transferee=None if wanted.transferee is None else raw_id(wanted.transferee, "transferee"),
        caller=_number(wanted.source_caller_id_number),
        custom_context=_context(wanted.custom_calling_context),
    )
    return _answer(api, asked, command, participants.TransferCallResponse(wanted.operation_context))


def _move_here(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(participants.MoveParticipantsRequest, asked.body)
    parties = tuple(dict.fromkeys(raw_id(each, "targetParticipants") for each in wanted.target_participants))
    here, _ = api.control.connection(asked.path["callConnectionId"])
    there, _ = api.control.connection(wanted.from_call)
    if here is there:
        raise ApiError(400, "8523", "fromCall: is a connection to this very call.")
    command = p.MoveHere(_asker(api, asked, wanted), parties, wanted.from_call, there.id)
    moved = [rest.CallParticipant(rest.identifier(party), False, False) for party in parties]
    body = participants.MoveParticipantsResponse(moved, wanted.operation_context, wanted.from_call)
    return _answer(api, asked, command, body)


# ------------------------------------------------------------------------------------------ what they have in common


def _answer(api: Api, asked: Asked, command: p.Command, body: rest.Dto) -> Answer:
    return Answer(rest.encode(body), api.command(asked, command).correlation)


def _asker(api: Api, asked: Asked, wanted: media.ActionRequest) -> Asker:
    callback = api.callback(wanted.operation_callback_uri)
    return Asker(asked.path["callConnectionId"], wanted.operation_context, callback)


def _id(api: Api, asked: Asked) -> str:
    """Return a new id of the node and worker that have the call; raise `Refused` when the call is gone."""
    return api.control.registry.of_connection(asked.path["callConnectionId"]).worker.ids.guid()


def _number(number: rest.PhoneNumber | None) -> str | None:
    return None if number is None else f"4:{number.value}"


def _context(context: participants.CustomCallingContext | None) -> dict[str, dict[str, str]] | None:
    return None if context is None else context.headers


HANDLERS: Mapping[str, Callable[[Api, Asked], Answer]] = {
    "listParticipants": _list,
    "getParticipant": _get,
    "addParticipant": _add,
    "cancelAddParticipant": _cancel_add,
    "removeParticipant": _remove,
    "transferToParticipant": _transfer,
    "moveParticipants": _move_here,
}
