"""The DTOs hold against the models of the newest SDK, and against the recorded answers."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offhook.wire import events, media, participants, rest

HERE = Path(__file__).parent
MODELS: dict[str, dict[str, Any]] = json.loads(
    (HERE / "api-extracts" / "callautomation-2026-03-12.sdk-extract.json").read_text()
)["pythonModels"]
# Without the previews of 2022, which had another shape.
RECORDED: dict[str, list[dict[str, Any]]] = {
    operation: [recorded for recorded in listed if not recorded["api_version"].startswith("2022")]
    for operation, listed in json.loads((HERE / "recorded-shapes.json").read_text())["operations"].items()
}

REQUESTS: list[tuple[type[rest.Dto], str]] = [
    (rest.CreateCallRequest, "CreateCallRequest"),
    (rest.AnswerCallRequest, "AnswerCallRequest"),
    (rest.CallIntelligenceOptions, "CallIntelligenceOptions"),
    (rest.RedirectCallRequest, "RedirectCallRequest"),
    (rest.RejectCallRequest, "RejectCallRequest"),
    (rest.MediaStreamingRequest, "StartMediaStreamingRequest"),
    (rest.MediaStreamingRequest, "StopMediaStreamingRequest"),
    (rest.MediaStreamingOptions, "WebSocketMediaStreamingOptions"),
    (rest.Identifier, "CommunicationIdentifierModel"),
    (rest.CommunicationUser, "CommunicationUserIdentifierModel"),
    (rest.PhoneNumber, "PhoneNumberIdentifierModel"),
    (rest.MicrosoftTeamsUser, "MicrosoftTeamsUserIdentifierModel"),
    (rest.MicrosoftTeamsApp, "MicrosoftTeamsAppIdentifierModel"),
    (rest.TeamsExtensionUser, "TeamsExtensionUserIdentifierModel"),
    (participants.AddParticipantRequest, "AddParticipantRequest"),
    (participants.CancelAddParticipantRequest, "CancelAddParticipantRequest"),
    (participants.RemoveParticipantRequest, "RemoveParticipantRequest"),
    (participants.TransferToParticipantRequest, "TransferToParticipantRequest"),
    (participants.MoveParticipantsRequest, "MoveParticipantsRequest"),
    (participants.CustomCallingContext, "CustomCallingContext"),
    (participants.ConnectRequest, "ConnectRequest"),
    (participants.CallLocator, "CallLocator"),
]
ANSWERS: list[tuple[type[rest.Dto], str]] = [
    (rest.CallConnectionProperties, "CallConnectionProperties"),
    (rest.MediaStreamingSubscription, "MediaStreamingSubscription"),
    (rest.TranscriptionSubscription, "TranscriptionSubscription"),
    (rest.CallParticipant, "CallParticipant"),
    (rest.ParticipantList, "GetParticipantsResponse"),
    (rest.CommunicationError, "CommunicationError"),
    (rest.CommunicationErrorResponse, "CommunicationErrorResponse"),
    (events.ResultInformation, "ResultInformation"),
    (participants.AddParticipantResponse, "AddParticipantResponse"),
    (participants.CancelAddParticipantResponse, "CancelAddParticipantResponse"),
    (participants.RemoveParticipantResponse, "RemoveParticipantResponse"),
    (participants.TransferCallResponse, "TransferCallResponse"),
    (participants.MoveParticipantsResponse, "MoveParticipantsResponse"),
]
# Part of the ACS Identity API, of which the extracts say nothing.
IDENTITY = {rest.CreateIdentityRequest, rest.CreateIdentityResponse, rest.AccessToken}


def required(dto: type[rest.Dto]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(dto) if field.required}


@pytest.mark.parametrize(("dto", "model"), REQUESTS + ANSWERS)
def test_every_field_is_one_of_the_model(dto: type[rest.Dto], model: str) -> None:
    assert set(dto.__struct_encode_fields__) <= set(MODELS[model])


@pytest.mark.parametrize(("dto", "model"), REQUESTS)
def test_a_request_requires_what_the_model_requires(dto: type[rest.Dto], model: str) -> None:
    assert required(dto) == {name for name, field in MODELS[model].items() if field["required"]}


@pytest.mark.parametrize(("dto", "model"), ANSWERS)
def test_an_answer_has_what_the_model_requires_at_least(dto: type[rest.Dto], model: str) -> None:
    assert required(dto) >= {name for name, field in MODELS[model].items() if field["required"]}


def test_every_dto_is_checked() -> None:
    public = {
        value
        for module in (rest, participants)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, rest.Dto)
    }
    checked = {dto for dto, _ in REQUESTS + ANSWERS} - {events.ResultInformation} | IDENTITY
    assert public - {rest.Dto, media.ActionRequest} == checked


# What previews up to 2024-09-01 had besides (recorded 4.1).
DROPPED = {"mediaSubscriptionId", "dataSubscriptionId"}
BODIES: list[tuple[str, type[rest.Dto]]] = [
    ("createCall", rest.CallConnectionProperties),
    ("answerCall", rest.CallConnectionProperties),
    ("connect", rest.CallConnectionProperties),
    ("getCall", rest.CallConnectionProperties),
    ("getParticipant", rest.CallParticipant),
    ("listParticipants", rest.ParticipantList),
]
ANSWERED = [
    pytest.param(dto, recorded["response"], id=f"{operation} {recorded['file']}")
    for operation, dto in BODIES
    for recorded in RECORDED[operation]
    if recorded["status"] < 300
]


@pytest.mark.parametrize(("dto", "recorded"), ANSWERED)
def test_recorded_answers_have_our_keys_in_our_order(dto: type[rest.Dto], recorded: dict[str, Any]) -> None:
    ours = dto.__struct_encode_fields__
    assert [key for key in ours if key in recorded] == [key for key in recorded if key not in DROPPED]


def asked(operation: str) -> list[Any]:
    return [
        pytest.param(recorded["request"], id=recorded["file"])
        for recorded in RECORDED[operation]
        if recorded["request"] is not None and recorded["status"] < 300
    ]


def filled(shape: Any, key: str = "") -> Any:
    """Turn a recorded shape back into a request: words where the shape says "string"."""
    words = {"transportType": "websocket", "audioChannelType": "mixed", "audioFormat": "Pcm24KMono"}
    match shape:
        case dict():
            return {name: filled(value, name) for name, value in shape.items()}
        case list():
            return [filled(value) for value in shape]
        case "boolean":
            return True
        case _:
            return words.get(key, "word")


@pytest.mark.parametrize("request_shape", asked("createCall"))
def test_recorded_create_requests_are_read(request_shape: Any) -> None:
    rest.decode(rest.CreateCallRequest, json.dumps(filled(request_shape)).encode())


@pytest.mark.parametrize("request_shape", asked("answerCall"))
def test_recorded_answer_requests_are_read(request_shape: Any) -> None:
    rest.decode(rest.AnswerCallRequest, json.dumps(filled(request_shape)).encode())


@pytest.mark.parametrize("request_shape", asked("startMediaStreaming") + asked("stopMediaStreaming"))
def test_recorded_streaming_requests_are_read(request_shape: Any) -> None:
    rest.decode(rest.MediaStreamingRequest, json.dumps(filled(request_shape)).encode())
