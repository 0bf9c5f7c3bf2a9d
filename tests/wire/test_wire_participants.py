"""Bodies of the operations about who takes part."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offhook.wire import participants, rest
from offhook.wire.participants import HEADERS

NUMBER = {"rawId": "4:+15550177", "phoneNumber": {"value": "+15550177"}}


def decode(kind: type[rest.T], body: Any) -> rest.T:
    return rest.decode(kind, json.dumps(body).encode())


def test_a_request_as_the_python_sdk_sends_it() -> None:
    wanted = decode(
        participants.AddParticipantRequest,
        {
            "participantToAdd": NUMBER,
            "sourceCallerIdNumber": {"value": "+15550142"},
            "invitationTimeoutInSeconds": 30,
            "operationContext": "context",
            "customCallingContext": {"sipHeaders": {"X-MS-Custom-a": "b"}},
            "somethingNewer": True,
        },
    )
    assert rest.raw_id(wanted.participant_to_add) == "4:+15550177"
    assert wanted.custom_calling_context is not None
    assert wanted.custom_calling_context.headers == {"sipHeaders": {"X-MS-Custom-a": "b"}, "voipHeaders": {}}


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (participants.AddParticipantRequest, {}, "participantToAdd"),
        (
            participants.AddParticipantRequest,
            {"participantToAdd": NUMBER, "invitationTimeoutInSeconds": 181},
            "invitationTimeoutInSeconds",
        ),
        (
            participants.AddParticipantRequest,
            {"participantToAdd": NUMBER, "invitationTimeoutInSeconds": -1},
            "invitationTimeoutInSeconds",
        ),
        (
            participants.AddParticipantRequest,
            {
                "participantToAdd": NUMBER,
                "customCallingContext": {"voipHeaders": {str(number): "" for number in range(HEADERS + 1)}},
            },
            "customCallingContext.voipHeaders",
        ),
        (participants.CancelAddParticipantRequest, {"invitationId": ""}, "invitationId"),
        (participants.RemoveParticipantRequest, {"participantToRemove": "4:+1"}, "participantToRemove"),
        (participants.TransferToParticipantRequest, {"transferee": NUMBER}, "targetParticipant"),
        (participants.MoveParticipantsRequest, {"targetParticipants": [NUMBER]}, "fromCall"),
        (participants.MoveParticipantsRequest, {"targetParticipants": [], "fromCall": "c"}, "targetParticipants"),
        (participants.ConnectRequest, {"callLocator": {}}, "callbackUri"),
    ],
)
def test_what_is_wrong_is_named(kind: type[Any], body: Any, field: str) -> None:
    with pytest.raises(rest.InvalidBody) as invalid:
        decode(kind, body)
    assert invalid.value.field == field


@pytest.mark.parametrize(
    ("locator", "where"),
    [
        ({"kind": "serverCallLocator", "serverCallId": "s"}, ("server", "s")),
        ({"kind": "GroupCallLocator", "groupCallId": "g"}, ("group", "g")),
        ({"kind": "roomCallLocator", "roomId": "r", "serverCallId": "s"}, ("room", "r")),
        ({"roomId": "r"}, ("room", "r")),
    ],
)
def test_where_a_call_is(locator: dict[str, str], where: tuple[str, str]) -> None:
    assert decode(participants.CallLocator, locator).where == where


@pytest.mark.parametrize(
    ("locator", "field"),
    [
        ({}, "callLocator.serverCallId"),
        ({"kind": "roomCallLocator", "groupCallId": "g"}, "callLocator.roomId"),
        ({"kind": "groupCallLocator"}, "callLocator.groupCallId"),
    ],
)
def test_a_locator_without_its_id(locator: dict[str, str], field: str) -> None:
    with pytest.raises(rest.InvalidBody, match="is required") as invalid:
        _ = decode(participants.CallLocator, locator).where
    assert invalid.value.field == field


def test_what_was_not_asked_is_left_out() -> None:
    assert rest.encode(participants.CancelAddParticipantResponse("i")) == b'{"invitationId":"i"}'
    whole = rest.CallParticipant(rest.identifier("4:+1"), False, False)
    added = json.loads(rest.encode(participants.AddParticipantResponse(whole, invitation_id="i")))
    assert set(added) == {"participant", "invitationId"}
