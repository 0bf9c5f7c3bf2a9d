import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offhook.wire import events
from offhook.wire.rest import CallParticipant, identifier

USER = "8:acs:r_u"
NUMBER = "4:+15550100"
RECORDED: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "contract" / "recorded-shapes.json").read_text()
)["events"]

OWN: dict[str, dict[str, Any]] = {
    "CallConnected": {},
    "CallDisconnected": {},
    "CreateCallFailed": {},
    "ParticipantsUpdated": events.participants_updated(
        [CallParticipant(identifier(USER), is_muted=False, is_on_hold=False)], 1
    ),
    "MediaStreamingStarted": events.media_streaming_update("MediaStreamingStarted", "subscriptionStarted"),
    "MediaStreamingStopped": events.media_streaming_update("MediaStreamingStopped", "subscriptionStopped"),
    "PlayStarted": {},
    "RecognizeFailed": {"failedPlaySourceIndex": 0},
    "HoldFailed": {},
}


def cloud_event(kind: str, version: str = "2025-06-15", context: str | None = None, **own: Any) -> dict[str, Any]:
    body = events.cloud_event(
        kind,
        event_id="e",
        time=1767607201.028034,
        call_connection_id="c",
        server_call_id="s",
        correlation_id="k",
        version=version,
        result=events.SUCCESS,
        operation_context=context,
        own=own,
    )
    (event,) = json.loads(body)
    assert isinstance(event, dict)
    return event


def shape(value: Any) -> Any:
    """The shape of a JSON value, as recorded-shapes.json writes it."""
    match value:
        case dict():
            return {key: shape(item) for key, item in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case bool():
            return "boolean"
        case int():
            return "integer"
        case _:
            return "string"


def test_a_whole_event() -> None:
    body = events.cloud_event(
        "MediaStreamingStarted",
        event_id="6f0e",
        time=1767607201.123456,
        call_connection_id="491f",
        server_call_id="aHR0cHM6Ly8=",
        correlation_id="ccad",
        version="2025-06-15",
        result=events.MEDIA_SUCCESS,
        operation_context="ctx",
        own=OWN["MediaStreamingStarted"],
    )
    assert body.decode() == (
        '[{"id":"6f0e","source":"calling/callConnections/491f",'
        '"type":"Microsoft.Communication.MediaStreamingStarted",'
        '"data":{"mediaStreamingUpdate":{"contentType":"Audio","mediaStreamingStatus":"mediaStreamingStarted",'
        '"mediaStreamingStatusDetails":"subscriptionStarted"},"version":"2025-06-15","operationContext":"ctx",'
        '"resultInformation":{"code":200,"subCode":0,"message":"Action completed successfully."},'
        '"callConnectionId":"491f","serverCallId":"aHR0cHM6Ly8=","correlationId":"ccad",'
        '"publicEventType":"Microsoft.Communication.MediaStreamingStarted"},'
        '"time":"2026-01-05T10:00:01.123456+00:00","specversion":"1.0","datacontenttype":"application/json",'
        '"subject":"calling/callConnections/491f"}]'
    )


# Of the years whose form we send (recorded 6.1): with resultInformation everywhere, without eventSource.
CASES = [
    pytest.param(kind, recorded["version"], recorded["data"], id=f"{kind} {recorded['version']}")
    for kind in OWN
    for recorded in RECORDED[kind]
    if "resultInformation" in recorded["data"]
    and "eventSource" not in recorded["data"]
    and not recorded["file"].startswith("java-dtmf_pstn")  # the same with a number as participant
]


@pytest.mark.parametrize(("kind", "version", "data"), CASES)
def test_data_has_the_recorded_keys_in_the_recorded_order(kind: str, version: str, data: dict[str, Any]) -> None:
    context = "ctx" if "operationContext" in data else None
    own = {key: value for key, value in OWN[kind].items() if key in data}
    written = shape(cloud_event(kind, version, context, **own)["data"])
    assert written == data
    assert list(written) == list(data)


def test_the_recorded_events_cover_the_families() -> None:
    assert {case.values[0] for case in CASES} == set(OWN)


@pytest.mark.parametrize("kind", sorted(events.SINCE))
def test_an_absent_operation_context_has_no_key(kind: str) -> None:
    assert "operationContext" not in cloud_event(kind)["data"]
    assert cloud_event(kind, context="")["data"]["operationContext"] == ""


def test_every_recorded_event_would_have_been_sent() -> None:
    seen = [(kind, recorded["version"]) for kind in RECORDED for recorded in RECORDED[kind] if kind in events.SINCE]
    assert len(seen) > 30
    assert [pair for pair in seen if pair[1].startswith("20") and not events.is_sent_to(*pair)] == []


@pytest.mark.parametrize(
    ("kind", "version", "sent"),
    [
        ("CallConnected", "2023-03-06", True),
        ("AnswerFailed", "2024-04-15", False),
        ("CreateCallFailed", "2024-09-15", True),
        ("MediaStreamingStarted", "2024-09-15", False),
        ("MediaStreamingStarted", "2024-11-15-preview", True),
        ("MediaStreamingStarted", "2023-10-03-preview", False),
        ("MediaStreamingFailed", "2025-05-15", True),
        ("StartRecordingFailed", "2025-05-15", False),
        ("MoveParticipantFailed", "2025-08-15-preview", True),
        ("MoveParticipantFailed", "2024-11-15-preview", False),
        ("MoveParticipantFailed", "2027-01-01", True),
    ],
)
def test_an_app_is_not_sent_what_its_sdk_does_not_know(kind: str, version: str, sent: bool) -> None:
    assert events.is_sent_to(kind, version) is sent


# -------------------------------------------------------------------------------------------------- Event Grid


def incoming_call(**more: Any) -> dict[str, Any]:
    body = events.incoming_call(
        event_id="e",
        time=1767607200.1234,
        topic="/subscriptions/x",
        to=USER,
        caller=NUMBER,
        caller_display_name="",
        server_call_id="s",
        incoming_call_context="ctx",
        correlation_id="k",
        **more,
    )
    (event,) = json.loads(body)
    assert isinstance(event, dict)
    return event


def test_an_incoming_call() -> None:
    user = {"kind": "communicationUser", "rawId": USER, "communicationUser": {"id": USER}}
    number = {"kind": "phoneNumber", "rawId": NUMBER, "phoneNumber": {"value": "+15550100"}}
    event = incoming_call()
    assert event == {
        "id": "e",
        "topic": "/subscriptions/x",
        "subject": f"/caller/{NUMBER}/recipient/{USER}",
        "eventType": "Microsoft.Communication.IncomingCall",
        "dataVersion": "1.0",
        "metadataVersion": "1",
        "eventTime": "2026-01-05T10:00:00.1234000Z",
        "data": {
            "to": user,
            "from": number,
            "serverCallId": "s",
            "callerDisplayName": "",
            "incomingCallContext": "ctx",
            "correlationId": "k",
        },
    }


@pytest.mark.parametrize("recorded", RECORDED["IncomingCall"], ids=lambda recorded: recorded["file"])
def test_incoming_call_data_has_the_recorded_order(recorded: dict[str, Any]) -> None:
    custom: dict[str, dict[str, str]] | None = {"sipHeaders": {}} if "customContext" in recorded["data"] else None
    data = incoming_call(custom_context=custom)["data"]
    assert list(data) == list(recorded["data"])
    assert list(data["to"])[:2] == list(recorded["data"]["to"])[:2] == ["kind", "rawId"]


def test_a_custom_context_always_has_both_kinds_of_headers() -> None:
    data = incoming_call(custom_context={"voipHeaders": {"a": "b"}})["data"]
    assert data["customContext"] == {"sipHeaders": {}, "voipHeaders": {"a": "b"}}


def test_a_subscription_validation() -> None:
    body = events.subscription_validation("code", "https://s/validate", event_id="e", time=0.0, topic="t")
    (event,) = json.loads(body)
    assert event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent"
    assert event["data"] == {"validationCode": "code", "validationUrl": "https://s/validate"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"validationResponse":"code"}', "code"),
        (b'{"validationResponse":"code","more":[1]}', "code"),
        (b'{"validationResponse":7}', None),
        (b'{"other":"code"}', None),
        (b"", None),
        (b"OK", None),
        (b"\xff", None),
        (b'{"validationResponse":"\xff"}', None),
        (b'{"a":' + b"[" * 50_000, None),
        (b'{"validationResponse":"code"}' + b" " * events.MAX_VALIDATION, None),
    ],
)
def test_an_answer_to_a_validation(body: bytes, code: str | None) -> None:
    assert events.validation_response(body) == code


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("2023-03-06", False),
        ("2025-06-15", False),
        ("2024-11-15-preview", False),
        ("2025-08-15-preview", True),
        ("2026-03-12", True),
        ("2027-01-01-preview", True),
    ],
)
def test_details_of_sip_are_for_versions_whose_models_have_them(version: str, known: bool) -> None:
    assert events.has_sip_details(version) is known


def test_details_of_sip_are_left_out_or_whole() -> None:
    plain = events.ResultInformation(486, 8539, "busy")
    assert msgspec.to_builtins(plain).keys() == {"code", "subCode", "message"}
    details = events.SipDiagnosticInfo(486, "Busy Here"), events.SipDiagnosticInfo(17, "User busy")
    full = events.ResultInformation(486, 8539, "busy", *details)
    assert msgspec.to_builtins(full)["sipDetails"] == {"code": 486, "message": "Busy Here"}
    assert msgspec.to_builtins(full)["q850Details"] == {"code": 17, "message": "User busy"}
