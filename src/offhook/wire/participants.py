"""Bodies of the operations about who takes part, and what their events have of their own.

Field names and which of them are required: contract 2.4 and 2.5; answers: recorded 4.3; events: contract 3.2, recorded
6.2. A participant is whole in answers, and a bare identifier in events (recorded: E8, E10).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from offhook.wire.media import ActionRequest
from offhook.wire.rest import (
    CallParticipant,
    Context,
    Dto,
    Identifier,
    InvalidBody,
    MediaStreamingOptions,
    PhoneNumber,
    Text,
    Uri,
    identifier,
)

HEADERS = 100  # of a custom calling context, SIP and VoIP each
HeaderName = Annotated[str, Meta(min_length=1, max_length=256)]
HeaderValue = Annotated[str, Meta(max_length=1024)]
Headers = Annotated[dict[HeaderName, HeaderValue], Meta(max_length=HEADERS)]

Id = Annotated[str, Meta(min_length=1, max_length=1024)]

# ---------------------------------------------------------------------------------------------------- requests


class CustomCallingContext(Dto):
    voip_headers: Headers | None = None
    sip_headers: Headers | None = None

    @property
    def headers(self) -> dict[str, dict[str, str]]:
        """What of it goes into `customContext` of IncomingCall."""
        return {"sipHeaders": self.sip_headers or {}, "voipHeaders": self.voip_headers or {}}


class AddParticipantRequest(ActionRequest, kw_only=True):
    participant_to_add: Identifier
    source_caller_id_number: PhoneNumber | None = None
    source_display_name: Text | None = None
    invitation_timeout_in_seconds: Annotated[int, Meta(ge=0, le=180)] | None = None
    custom_calling_context: CustomCallingContext | None = None


class CancelAddParticipantRequest(ActionRequest, kw_only=True):
    invitation_id: Id


class RemoveParticipantRequest(ActionRequest, kw_only=True):
    participant_to_remove: Identifier


class TransferToParticipantRequest(ActionRequest, kw_only=True):
    target_participant: Identifier
    transferee: Identifier | None = None
    custom_calling_context: CustomCallingContext | None = None
    source_caller_id_number: PhoneNumber | None = None


class MoveParticipantsRequest(ActionRequest, kw_only=True):
    """`from_call`: the callConnectionId of a connection to the call that they leave (documented: MoveParticipants)."""

    target_participants: Annotated[list[Identifier], Meta(min_length=1, max_length=100)]
    from_call: Id


class CallLocator(Dto):
    """Where a call is. `kind`: groupCallLocator, serverCallLocator or roomCallLocator; where it is missing, the id that
    is there says which."""

    group_call_id: Id | None = None
    server_call_id: Id | None = None
    room_id: Id | None = None
    kind: Annotated[str, Meta(pattern=r"^(?i:groupCallLocator|serverCallLocator|roomCallLocator)\Z")] | None = None

    @property
    def where(self) -> tuple[str, str]:
        """ "group", "server" or "room", and the id. Raises `InvalidBody` when that id is missing."""
        ids = {"group": self.group_call_id, "server": self.server_call_id, "room": self.room_id}
        named = "" if self.kind is None else self.kind.lower().removesuffix("calllocator")
        for kind, id in ids.items():
            if id is not None and named in ("", kind):
                return kind, id
        field = {"group": "groupCallId", "room": "roomId"}.get(named, "serverCallId")
        raise InvalidBody(f"callLocator.{field} is required", f"callLocator.{field}")


class ConnectRequest(Dto, kw_only=True):
    call_locator: CallLocator
    callback_uri: Uri
    operation_context: Context | None = None
    media_streaming_options: MediaStreamingOptions | None = None


# ----------------------------------------------------------------------------------------------------- answers


class AddParticipantResponse(Dto):
    participant: CallParticipant
    operation_context: str | None = None
    invitation_id: str | None = None


class CancelAddParticipantResponse(Dto):
    invitation_id: str
    operation_context: str | None = None


class RemoveParticipantResponse(Dto):
    operation_context: str | None = None


class TransferCallResponse(Dto):
    """`{}` without a context (recorded: R17)."""

    operation_context: str | None = None


class MoveParticipantsResponse(Dto):
    participants: list[CallParticipant]
    operation_context: str | None = None
    from_call: str | None = None


# ------------------------------------------------------------------------------------------------------ events


def participant(raw_id: str) -> dict[str, Any]:
    """Return the own keys of Add- and RemoveParticipantSucceeded and -Failed."""
    return {"participant": identifier(raw_id)}


def invitation(id: str) -> dict[str, Any]:
    """Return the own keys of CancelAddParticipantSucceeded and -Failed."""
    return {"invitationId": id}


def transfer(target: str, transferee: str) -> dict[str, Any]:
    """Return the own keys of CallTransferAccepted."""
    return {"transferTarget": identifier(target), "transferee": identifier(transferee)}


def moved(raw_id: str, from_call: str) -> dict[str, Any]:
    """Return the own keys of MoveParticipantSucceeded and -Failed."""
    return {"participant": identifier(raw_id), "fromCall": from_call}
