"""Bodies of the REST API: requests in, answers out. Its routes are in `operations`, and can be had from here too.

Field names and which of them are required: contract 2.4 and 2.5; answers: recorded 3 and 4. Optional keys are left
out, never null; an explicit null in a request means the same as no key. Unknown keys are ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from offhook.wire.operations import OPERATIONS as OPERATIONS
from offhook.wire.operations import MethodNotAllowed as MethodNotAllowed
from offhook.wire.operations import Operation as Operation
from offhook.wire.operations import match as match

MAX_BODY = 1024 * 1024  # bytes

Uri = Annotated[str, Meta(max_length=8192)]
Context = Annotated[str, Meta(max_length=5000)]
RawId = Annotated[str, Meta(min_length=1, max_length=512)]
Text = Annotated[str, Meta(max_length=1024)]  # a word, a name
IncomingCallContext = Annotated[str, Meta(min_length=1, max_length=64 * 1024)]


class Dto(msgspec.Struct, rename="camel", omit_defaults=True):
    """Base of every body: camelCase on the wire, defaults omitted."""


class InvalidBody(Exception):
    """A request body that cannot be taken. `field` is the path of the offending field, or "" for the whole body."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


# ------------------------------------------------------------------------------------------------- identifiers


class CommunicationUser(Dto):
    id: RawId


class PhoneNumber(Dto):
    value: RawId
    is_anonymous: bool | None = None
    asserted_id: RawId | None = None


class MicrosoftTeamsUser(Dto):
    user_id: RawId
    is_anonymous: bool | None = None
    cloud: Text | None = None


class MicrosoftTeamsApp(Dto):
    app_id: RawId
    cloud: Text | None = None


class TeamsExtensionUser(Dto):
    user_id: RawId
    tenant_id: RawId
    resource_id: RawId
    cloud: Text | None = None


class Identifier(Dto):
    """Who somebody is. Requests may leave out all but one sub-object; we always send `rawId` and `kind`."""

    raw_id: RawId | None = None
    kind: Text | None = None
    communication_user: CommunicationUser | None = None
    phone_number: PhoneNumber | None = None
    microsoft_teams_user: MicrosoftTeamsUser | None = None
    microsoft_teams_app: MicrosoftTeamsApp | None = None
    teams_extension_user: TeamsExtensionUser | None = None


_ACS_CLOUDS = {"8:acs:": "public", "8:dod-acs:": "dod", "8:gcch-acs:": "gcch"}
_TEAMS_USER_CLOUDS = {"8:orgid:": "public", "8:dod:": "dod", "8:gcch:": "gcch"}
_TEAMS_APP_CLOUDS = {"28:orgid:": "public", "28:dod:": "dod", "28:gcch:": "gcch"}


def identifier(raw_id: str) -> Identifier:
    """Return the full form of a raw id: `rawId`, `kind` and the kind's sub-object (contract 2.4)."""
    if raw_id.startswith("4:"):
        number = raw_id[2:]
        phone = PhoneNumber(number, is_anonymous=True if number == "anonymous" else None)
        return Identifier(raw_id, "phoneNumber", phone_number=phone)
    prefix, own = _split(raw_id)
    if prefix in _ACS_CLOUDS and own.count("_") == 2:
        resource, tenant, user = own.split("_")
        extension = TeamsExtensionUser(user, tenant, resource, _ACS_CLOUDS[prefix])
        return Identifier(raw_id, "teamsExtensionUser", teams_extension_user=extension)
    if prefix in _ACS_CLOUDS or prefix == "8:spool:":
        return Identifier(raw_id, "communicationUser", communication_user=CommunicationUser(raw_id))
    if cloud := _TEAMS_USER_CLOUDS.get(prefix):
        return Identifier(raw_id, "microsoftTeamsUser", microsoft_teams_user=MicrosoftTeamsUser(own, cloud=cloud))
    if prefix == "8:teamsvisitor:":
        visitor = MicrosoftTeamsUser(own, is_anonymous=True)
        return Identifier(raw_id, "microsoftTeamsUser", microsoft_teams_user=visitor)
    if cloud := _TEAMS_APP_CLOUDS.get(prefix):
        return Identifier(raw_id, "microsoftTeamsApp", microsoft_teams_app=MicrosoftTeamsApp(own, cloud))
    return Identifier(raw_id, "unknown")


def raw_id(identifier: Identifier) -> str:
    """Return the raw id: `rawId` itself, else inferred from the sub-object; raise ValueError if there is neither.

    `kind` is not looked at: Python leaves it out (contract 2.4).
    """
    if identifier.raw_id is not None:
        return identifier.raw_id
    if identifier.communication_user:
        return identifier.communication_user.id
    if identifier.phone_number:
        return f"4:{identifier.phone_number.value}"
    if visitor := identifier.microsoft_teams_user:
        prefix = "8:teamsvisitor:" if visitor.is_anonymous else _prefix(_TEAMS_USER_CLOUDS, visitor.cloud)
        return f"{prefix}{visitor.user_id}"
    if app := identifier.microsoft_teams_app:
        return f"{_prefix(_TEAMS_APP_CLOUDS, app.cloud)}{app.app_id}"
    if user := identifier.teams_extension_user:
        return f"{_prefix(_ACS_CLOUDS, user.cloud)}{user.resource_id}_{user.tenant_id}_{user.user_id}"
    raise ValueError("the identifier has neither a rawId nor one of the known sub-objects")


def _split(raw_id: str) -> tuple[str, str]:
    """`8:acs:x:y` → ("8:acs:", "x:y"); a raw id with fewer parts has no prefix."""
    parts = raw_id.split(":", maxsplit=2)
    return (f"{parts[0]}:{parts[1]}:", parts[2]) if len(parts) == 3 else ("", raw_id)


def _prefix(clouds: Mapping[str, str], cloud: str | None) -> str:
    wanted = (cloud or "public").lower()
    for prefix, name in clouds.items():
        if name == wanted:
            return prefix
    raise ValueError(f"cloud {wanted!r} is not known: public, dod or gcch")


# ---------------------------------------------------------------------------------------------------- requests

_RATES = {"pcm16kmono": 16_000, "pcm24kmono": 24_000}


class MediaStreamingOptions(Dto):
    """All three generations of shape (contract 2.4). Enum-like strings come in any casing; a value that is none of
    the enum's is refused, except that of `contentType`, of which only one exists."""

    transport_type: Annotated[str, Meta(pattern=r"^(?i:websocket)\Z")]
    audio_channel_type: Annotated[str, Meta(pattern=r"^(?i:mixed|unmixed)\Z")]
    transport_url: Uri | None = None
    content_type: Text | None = None
    start_media_streaming: bool | None = None
    enable_bidirectional: bool | None = None
    audio_format: Annotated[str, Meta(pattern=r"^(?i:pcm16KMono|pcm24KMono)\Z")] | None = None
    enable_dtmf_tones: bool | None = None

    @property
    def rate(self) -> int:
        """Samples a second: 16000 (the default) or 24000."""
        return _RATES[(self.audio_format or "pcm16KMono").lower()]

    @property
    def unmixed(self) -> bool:
        return self.audio_channel_type.lower() == "unmixed"


class CallIntelligenceOptions(Dto):
    """An app that names a speech service is going to have texts said, or speech recognised. It is not used here."""

    cognitive_services_endpoint: Text | None = None


class CreateCallRequest(Dto):
    targets: Annotated[list[Identifier], Meta(min_length=1, max_length=100)]
    callback_uri: Uri
    source_caller_id_number: PhoneNumber | None = None
    source_display_name: Text | None = None
    source: CommunicationUser | None = None
    operation_context: Context | None = None
    media_streaming_options: MediaStreamingOptions | None = None
    teams_app_source: MicrosoftTeamsApp | None = None
    call_intelligence_options: CallIntelligenceOptions | None = None


class AnswerCallRequest(Dto):
    incoming_call_context: IncomingCallContext
    callback_uri: Uri
    operation_context: Context | None = None
    answered_by: CommunicationUser | None = None
    media_streaming_options: MediaStreamingOptions | None = None
    call_intelligence_options: CallIntelligenceOptions | None = None


class RedirectCallRequest(Dto):
    incoming_call_context: IncomingCallContext
    target: Identifier


class RejectCallRequest(Dto):
    """`call_reject_reason`: none, busy or forbidden, in any casing."""

    incoming_call_context: IncomingCallContext
    call_reject_reason: Text | None = None


class MediaStreamingRequest(Dto):
    """Body of startMediaStreaming and stopMediaStreaming; may be empty."""

    operation_context: Context | None = None
    operation_callback_uri: Uri | None = None


class CreateIdentityRequest(Dto):
    """Body of `POST /identities` of the ACS Identity API; may be empty."""

    create_token_with_scopes: Annotated[list[Text], Meta(max_length=100)] | None = None
    expires_in_minutes: Annotated[int, Meta(ge=60, le=1440)] | None = None


# ----------------------------------------------------------------------------------------------------- answers


class MediaStreamingSubscription(Dto, kw_only=True):
    """`state`: disabled, inactive or active (recorded 4.2)."""

    id: str | None = None
    state: str
    subscribed_content_types: list[str] | None = None


class TranscriptionSubscription(Dto, kw_only=True):
    id: str | None = None
    state: str
    subscribed_result_types: list[str]
    locale: str | None = None


class CallConnectionProperties(Dto, kw_only=True):
    """Keys in the recorded order; which of them stand in which answer: recorded 4.1."""

    call_connection_id: str
    server_call_id: str | None = None
    targets: list[Identifier]
    call_connection_state: str
    callback_uri: str
    source_caller_id_number: PhoneNumber | None = None
    source_display_name: str | None = None
    source: Identifier | None = None
    correlation_id: str
    answered_by: CommunicationUser | None = None
    media_streaming_subscription: MediaStreamingSubscription | None = None
    transcription_subscription: TranscriptionSubscription | None = None


class CallParticipant(Dto):
    identifier: Identifier
    is_muted: bool
    is_on_hold: bool


class ParticipantList(Dto):
    value: list[CallParticipant]
    next_link: str | None = None


class AccessToken(Dto):
    """`expires_on`: ISO 8601 with an offset."""

    token: str
    expires_on: str


class CreateIdentityResponse(Dto):
    identity: CommunicationUser
    access_token: AccessToken | None = None


def identity_response(
    user: str, request: CreateIdentityRequest, now: float, entropy: Callable[[int], bytes] = os.urandom
) -> CreateIdentityResponse:
    """Return the answer that names `user` (a raw id). `now`: Unix seconds.

    A token is given if scopes were asked for. It is opaque and opens nothing: nothing here takes user tokens.
    """
    if not request.create_token_with_scopes:
        return CreateIdentityResponse(CommunicationUser(user))
    expires = now + 60 * (request.expires_in_minutes or 1440)
    return CreateIdentityResponse(CommunicationUser(user), AccessToken(entropy(32).hex(), moment(expires)))


class CommunicationError(Dto):
    code: str
    message: str
    target: str | None = None
    details: list[CommunicationError] | None = None
    innererror: CommunicationError | None = None


class CommunicationErrorResponse(Dto):
    error: CommunicationError


# ----------------------------------------------------------------------------------------------- coding bodies


def moment(unix: float) -> str:
    """Return a Unix time in seconds the way ACS writes times: trailing zeros trimmed, `+00:00` (recorded 6.1)."""
    text = datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "+00:00"


T = TypeVar("T", bound=Dto)

_PATH = re.compile(r" - at `\$\.?(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.+?)`")


def encode(dto: Dto) -> bytes:
    """Return the JSON of a body: compact, keys in field order."""
    return msgspec.json.encode(dto)


def decode(type: type[T], body: bytes) -> T:
    """Return the body as `type`; raise `InvalidBody` naming the field that is missing or wrong.

    No bytes at all count as `{}`: the SDKs send either for an empty body (contract 5).
    """
    if len(body) > MAX_BODY:
        raise InvalidBody(f"the body has {len(body)} bytes, more than {MAX_BODY}", "")
    try:
        return msgspec.json.decode(body or b"{}", type=type)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidBody(f"the body is not JSON: {error}", "") from None


def _invalid(text: str) -> InvalidBody:
    """Turn msgspec's "… - at `$.targets[0].rawId`" into a message that begins with the field."""
    at = _PATH.search(text)
    parent = at[1] if at else ""
    reason = text[: at.start()] if at else text
    if missing := _MISSING.fullmatch(reason):
        field = f"{parent}.{missing[1]}" if parent else missing[1]
        return InvalidBody(f"{field} is required", field)
    return InvalidBody(f"{parent or 'the body'}: {reason}", parent)


def error_body(code: str, message: str, target: str | None) -> bytes:
    """Return the body of an error answer; `target` is the request's path without host and query (recorded 3)."""
    return encode(CommunicationErrorResponse(CommunicationError(code, message, target)))
