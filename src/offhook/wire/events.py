"""What the app's endpoints are sent: CloudEvents to callbacks (contract 3.1 to 3.3), Event Grid events (3.5).

Every body is a JSON array of one event: JavaScript reads only the first. Key order, the form of `time` and the
absence of nulls are as recorded (recorded 6.1, 6.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from offhook.wire.rest import CallParticipant, Dto, identifier, moment

MAX_VALIDATION = 64 * 1024  # bytes of an answer to a validation event that we look at

_PREFIX = "Microsoft.Communication."


class SipDiagnosticInfo(Dto):
    """What the telephone network's signalling said: a code, of SIP or of Q.850, and its text (contract 2.5)."""

    code: int
    message: str


class ResultInformation(Dto):
    """`code` is like an HTTP or SIP status, `sub_code` ACS's own (contract 3.3).

    The details are of a telephone's leg, and only for whom `has_sip_details` says that he knows them.
    """

    code: int
    sub_code: int
    message: str
    sip_details: SipDiagnosticInfo | None = None
    q850_details: SipDiagnosticInfo | None = None


SUCCESS = ResultInformation(200, 0, "")  # of signalling events (recorded 6.3)
MEDIA_SUCCESS = ResultInformation(200, 0, "Action completed successfully.")  # of media and streaming events
ENDED_BY_APP = ResultInformation(
    200, 7000, "Call was ended by Azure Communication Service Call Automation API or a server bot. DiagCode: 0#7000.@"
)
ENDED_BY_OTHER_APP = ResultInformation(200, 5001, "This conversation has ended.. DiagCode: 0#5001.@")
ENDED_BY_REMOTE = ResultInformation(200, 5002, "The conversation has ended. DiagCode: 0#5002.@")  # left or rejected
STREAM_UNREACHABLE = ResultInformation(
    400, 8581, "Action failed, Transport url is not valid or web socket server is not operational."
)


def add_canceled(party: str) -> ResultInformation:
    """Return the result of CancelAddParticipantSucceeded, whose text speaks of a failure (recorded: E9)."""
    text = f"addParticipants failed for participant {party}. Underlying reason: The conversation has ended."
    return ResultInformation(200, 5300, f"{text} DiagCode: 0#5300.@")


# Event → first stable api-version whose SDKs know it (contract 3.2).
SINCE: dict[str, str] = {
    **dict.fromkeys(
        (
            "CallConnected",
            "CallDisconnected",
            "ParticipantsUpdated",
            "AddParticipantSucceeded",
            "AddParticipantFailed",
            "RemoveParticipantSucceeded",
            "RemoveParticipantFailed",
            "CallTransferAccepted",
            "CallTransferFailed",
            "PlayCompleted",
            "PlayCanceled",
            "PlayFailed",
            "RecognizeCompleted",
            "RecognizeFailed",
            "RecognizeCanceled",
            "RecordingStateChanged",
        ),
        "2023-03-06",
    ),
    **dict.fromkeys(
        (
            "CancelAddParticipantSucceeded",
            "CancelAddParticipantFailed",
            "ContinuousDtmfRecognitionToneReceived",
            "ContinuousDtmfRecognitionToneFailed",
            "ContinuousDtmfRecognitionStopped",
            "SendDtmfTonesCompleted",
            "SendDtmfTonesFailed",
        ),
        "2023-10-15",
    ),
    **dict.fromkeys(("CreateCallFailed", "AnswerFailed", "ConnectFailed", "HoldFailed", "PlayStarted"), "2024-09-15"),
    **dict.fromkeys(
        (
            "MediaStreamingStarted",
            "MediaStreamingStopped",
            "MediaStreamingFailed",
            "TranscriptionStarted",
            "TranscriptionStopped",
            "TranscriptionUpdated",
            "TranscriptionFailed",
        ),
        "2025-05-15",
    ),
    "StartRecordingFailed": "2025-06-15",
    **dict.fromkeys(("MoveParticipantSucceeded", "MoveParticipantFailed"), "2026-03-12"),
}

# Stable api-version → the first preview that had its news (recorded: E3, E7, E14, E15, E20).
_FIRST_PREVIEW = {
    "2023-03-06": "2022-04-07",
    "2023-10-15": "2023-06-15",
    "2024-09-15": "2024-06-15",
    "2025-05-15": "2024-01-22",
    "2026-03-12": "2025-08-15",  # SDK extracts
}


def is_sent_to(kind: str, api_version: str) -> bool:
    """Whether an app that made its call with `api_version` knows the event: an older JavaScript SDK throws."""
    return _is_in(SINCE[kind], api_version)


def has_sip_details(api_version: str) -> bool:
    """Whether its `ResultInformation` has `sipDetails` and `q850Details` (SDK extracts)."""
    return _is_in("2026-03-12", api_version)


def _is_in(since: str, api_version: str) -> bool:
    """Whether a version has what came with the stable one `since`, or with the first preview of that."""
    if api_version.endswith("-preview"):
        since = _FIRST_PREVIEW.get(since, since)
    return api_version[:10] >= since


# ------------------------------------------------------------------------------------------------- CloudEvents

_SIGNALLING = frozenset({"CallConnected", "CallDisconnected", "CreateCallFailed", "AnswerFailed"})
_RESULT_FIRST = frozenset({"ParticipantsUpdated", "HoldFailed"})


def cloud_event(
    kind: str,
    *,
    event_id: str,
    time: float,
    call_connection_id: str,
    server_call_id: str,
    correlation_id: str,
    version: str,
    result: ResultInformation,
    operation_context: str | None,
    own: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the body of one callback.

    `kind` is the event's name without prefix, `time` Unix seconds, `version` the api-version that made the call
    (recorded 1.3), `own` what only this kind of event has, such as `participants_updated(…)`.
    """
    told = {"version": version}
    context = {} if operation_context is None else {"operationContext": operation_context}
    outcome = {"resultInformation": result}
    # 2026-03-12 turned the order round in signalling events, and in those only (recorded: E17).
    result_first = kind in _RESULT_FIRST or (kind in _SIGNALLING and version >= "2026-03-12")
    source = f"calling/callConnections/{call_connection_id}"
    event = {
        "id": event_id,
        "source": source,
        "type": _PREFIX + kind,
        "data": {
            **(own or {}),
            **(context | outcome | told if result_first else told | context | outcome),
            "callConnectionId": call_connection_id,
            "serverCallId": server_call_id,
            "correlationId": correlation_id,
            "publicEventType": _PREFIX + kind,
        },
        "time": moment(time),
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "subject": source,
    }
    return msgspec.json.encode([event])


def participants_updated(participants: Sequence[CallParticipant], sequence: int) -> dict[str, Any]:
    """Return ParticipantsUpdated's own keys; the first `sequence` of a connection is 1 (recorded 6.4)."""
    return {"participants": participants, "sequenceNumber": sequence}


def media_streaming_update(kind: str, details: str) -> dict[str, Any]:
    """Return the own keys of MediaStreamingStarted, -Stopped or -Failed (`kind`); `details`: contract 3.2."""
    update = {
        "contentType": "Audio",
        "mediaStreamingStatus": f"m{kind[1:]}",
        "mediaStreamingStatusDetails": details,
    }
    return {"mediaStreamingUpdate": update}


# -------------------------------------------------------------------------------------------------- Event Grid


def incoming_call(
    *,
    event_id: str,
    time: float,
    topic: str,
    to: str,
    caller: str,
    caller_display_name: str,
    server_call_id: str,
    incoming_call_context: str,
    correlation_id: str,
    custom_context: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """Return the body that offers a call to an app. `to` and `caller` are raw ids, `time` is Unix seconds.

    `custom_context` holds the caller's `sipHeaders` and `voipHeaders`; its key is there only when it is given.
    """
    data: dict[str, Any] = {
        "to": _kind_first(to),
        "from": _kind_first(caller),
        "serverCallId": server_call_id,
        "callerDisplayName": caller_display_name,
    }
    if custom_context is not None:
        data["customContext"] = {"sipHeaders": {}, "voipHeaders": {}, **custom_context}
    data |= {"incomingCallContext": incoming_call_context, "correlationId": correlation_id}
    subject = f"/caller/{caller}/recipient/{to}"
    return _grid_event(event_id, time, topic, subject, _PREFIX + "IncomingCall", "1.0", data)


def subscription_validation(code: str, url: str, *, event_id: str, time: float, topic: str) -> bytes:
    """Return the body that asks an endpoint whether it wants our events: it answers with `code`, or GETs `url`."""
    data = {"validationCode": code, "validationUrl": url}
    return _grid_event(event_id, time, topic, "", "Microsoft.EventGrid.SubscriptionValidationEvent", "2", data)


class _ValidationAnswer(Dto):
    validation_response: str


def validation_response(body: bytes) -> str | None:
    """Return the code in an endpoint's answer to `subscription_validation`, or None when there is none."""
    if len(body) > MAX_VALIDATION:
        return None
    try:
        return msgspec.json.decode(body, type=_ValidationAnswer).validation_response
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _grid_event(
    event_id: str, time: float, topic: str, subject: str, kind: str, data_version: str, data: Mapping[str, Any]
) -> bytes:
    event = {
        "id": event_id,
        "topic": topic,
        "subject": subject,
        "eventType": kind,
        "dataVersion": data_version,
        "metadataVersion": "1",
        "eventTime": datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),  # seven digits
        "data": data,
    }
    return msgspec.json.encode([event])


def _kind_first(raw_id: str) -> dict[str, Any]:
    """An identifier in the key order of Event Grid events: there `kind` comes before `rawId` (recorded 6.2)."""
    full: dict[str, Any] = msgspec.to_builtins(identifier(raw_id))
    return {"kind": full["kind"], **full}
