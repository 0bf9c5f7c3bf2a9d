"""The REST surface, request by request, against the ASGI application in memory."""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from offhook.server.api import SUPPORTED, Api
from offhook.server.requests import BODY_LIMIT
from offhook.wire import auth
from offhook.wire.operations import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, RestAnswer

CALLS = "/calling/callConnections"
CALLBACK = "https://app.example/callback"
CALLER, PHONE = "4:+15550100", "4:+15550177"
RESOURCE = "11111111-2222-4333-8444-555555555555"
APP = f"8:acs:{RESOURCE}_00000000-0000-4000-8000-00000000000a"
OTHER = f"8:acs:{RESOURCE}_00000000-0000-4000-8000-00000000000b"
NOBODY = "00100000-0000-4000-8000-000000000000"
OPTIONS = {"transportType": "websocket", "audioChannelType": "mixed", "transportUrl": "wss://app.example/audio"}

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def user(raw_id: str) -> dict[str, Any]:
    return {"rawId": raw_id, "kind": "communicationUser", "communicationUser": {"id": raw_id}}


def number(raw_id: str) -> dict[str, Any]:
    return {"rawId": raw_id, "kind": "phoneNumber", "phoneNumber": {"value": raw_id[2:]}}


def path_of(operation: str, connection: str = NOBODY, participant: str = CALLER) -> str:
    path = BY_NAME[operation].path.replace("{callConnectionId}", connection)
    return path.replace("{participantRawId}", participant).replace("{recordingId}", "abc")


# ------------------------------------------------------------------------------------------------ every operation


async def ask(server: MemoryServer, operation: str, body: Any = None, connection: str = NOBODY) -> RestAnswer:
    agent = {"x-ms-client-request-id": "the client's own id", "User-Agent": "sdk/1.6.0"}
    answer = await server.rest(BY_NAME[operation].method, path_of(operation, connection), body, headers=agent)
    await server.settle()
    return answer


async def create_call(server: MemoryServer) -> RestAnswer:
    await server.phone()
    answer = await ask(
        server, "createCall", {"targets": [number(PHONE)], "callbackUri": CALLBACK, "source": {"id": APP}}
    )
    call = answer.body
    assert call == {
        "callConnectionId": call["callConnectionId"],
        "targets": [number(PHONE)],
        "callConnectionState": "connecting",
        "callbackUri": CALLBACK,
        "sourceDisplayName": "",
        "source": user(APP),
        "correlationId": call["correlationId"],
        "mediaStreamingSubscription": {
            "id": call["mediaStreamingSubscription"]["id"],
            "state": "disabled",
            "subscribedContentTypes": ["audio"],
        },
    }
    assert answer.headers["x-microsoft-skype-chain-id"] == call["correlationId"]
    return answer


async def answer_call(server: MemoryServer) -> RestAnswer:
    await server.call()
    offer = server.incoming[-1]
    body = {"incomingCallContext": server.context, "callbackUri": CALLBACK, "answeredBy": {"id": APP}}
    answer = await ask(server, "answerCall", {**body, "mediaStreamingOptions": OPTIONS})
    call = answer.body
    assert call == {
        "callConnectionId": call["callConnectionId"],
        "serverCallId": offer["serverCallId"],
        "targets": [user(APP)],
        "callConnectionState": "connecting",
        "callbackUri": CALLBACK,
        "sourceDisplayName": "+15550100",
        "source": number(CALLER),
        "correlationId": offer["correlationId"],
        "answeredBy": {"id": APP},
        "mediaStreamingSubscription": {
            "id": call["mediaStreamingSubscription"]["id"],
            "state": "inactive",
            "subscribedContentTypes": ["audio"],
        },
    }
    assert answer.headers["x-microsoft-skype-chain-id"] == call["correlationId"]
    return answer


async def redirect_call(server: MemoryServer) -> RestAnswer:
    await server.call()
    answer = await ask(server, "redirectCall", {"incomingCallContext": server.context, "target": user(OTHER)})
    assert answer.headers["x-microsoft-skype-chain-id"] == server.incoming[-1]["correlationId"]
    return answer


async def reject_call(server: MemoryServer) -> RestAnswer:
    await server.call()
    answer = await ask(server, "rejectCall", {"incomingCallContext": server.context, "callRejectReason": "Busy"})
    assert answer.headers["x-microsoft-skype-chain-id"] == server.incoming[-1]["correlationId"]
    return answer


async def get_call(server: MemoryServer) -> RestAnswer:
    await server.call()
    app = await server.answer()
    answer = await ask(server, "getCall", connection=app)
    call = answer.body
    assert (call["callConnectionId"], call["callConnectionState"]) == (app, "connected")
    assert call["serverCallId"] == server.incoming[-1]["serverCallId"]
    assert call["mediaStreamingSubscription"] == {"state": "disabled"}
    assert call["transcriptionSubscription"] == {"state": "disabled", "subscribedResultTypes": []}
    return answer


async def in_a_call(server: MemoryServer, operation: str, body: Any = None) -> RestAnswer:
    """Ask in an established call with a stream that was configured and not started."""
    await server.call()
    app = await server.answer(mediaStreamingOptions=OPTIONS)
    return await ask(server, operation, body, app)


async def list_participants(server: MemoryServer) -> RestAnswer:
    answer = await in_a_call(server, "listParticipants")
    app = user(f"8:acs:{RESOURCE}_00000000-0000-0000-0000-000000000000")
    still = {"isMuted": False, "isOnHold": False}
    assert answer.body == {"value": [{"identifier": number(CALLER), **still}, {"identifier": app, **still}]}
    return answer


async def get_participant(server: MemoryServer) -> RestAnswer:
    answer = await in_a_call(server, "getParticipant")
    assert answer.body == {"identifier": number(CALLER), "isMuted": False, "isOnHold": False}
    return answer


async def connect(server: MemoryServer) -> RestAnswer:
    await server.call()
    await server.answer()
    locator = {"kind": "serverCallLocator", "serverCallId": server.incoming[-1]["serverCallId"]}
    return await ask(server, "connect", {"callLocator": locator, "callbackUri": CALLBACK})


async def move_participants(server: MemoryServer) -> RestAnswer:
    other = await create_call(server)
    body = {"targetParticipants": [number(PHONE)], "fromCall": other.body["callConnectionId"]}
    return await in_a_call(server, "moveParticipants", body)


TARGET = {"targetParticipant": number(CALLER)}
REQUESTS: dict[str, Any] = {  # of operations in a call that need one
    "play": {"playSources": [{"kind": "text", "text": {"text": "440"}}]},
    "recognize": {"recognizeInputType": "dtmf", "recognizeOptions": TARGET},
    "startContinuousDtmfRecognition": TARGET,
    "stopContinuousDtmfRecognition": TARGET,
    "sendDtmfTones": {**TARGET, "tones": ["one"]},
    "mute": {"targetParticipants": [number(CALLER)]},
    "hold": TARGET,
    "unhold": TARGET,
    "addParticipant": {"participantToAdd": number(PHONE)},
    "removeParticipant": {"participantToRemove": number(CALLER)},
    "cancelAddParticipant": {"invitationId": "none"},
    "transferToParticipant": {"targetParticipant": number(PHONE)},
    "moveParticipants": {"targetParticipants": [number(PHONE)], "fromCall": NOBODY},
}
EXCHANGES: dict[str, Callable[[MemoryServer], Awaitable[RestAnswer]]] = {
    "createCall": create_call,
    "answerCall": answer_call,
    "redirectCall": redirect_call,
    "rejectCall": reject_call,
    "getCall": get_call,
    "hangUp": lambda server: in_a_call(server, "hangUp"),
    "terminate": lambda server: in_a_call(server, "terminate"),
    "listParticipants": list_participants,
    "getParticipant": get_participant,
    "startMediaStreaming": lambda server: in_a_call(server, "startMediaStreaming", {"operationContext": "x"}),
    "stopMediaStreaming": lambda server: in_a_call(server, "stopMediaStreaming", b""),
    "cancelAllMediaOperations": lambda server: in_a_call(server, "cancelAllMediaOperations"),
    **{
        operation: lambda server, operation=operation: in_a_call(server, operation, REQUESTS[operation])  # type: ignore[misc]
        for operation in REQUESTS
    },
    "connect": connect,
    "moveParticipants": move_participants,
}


BODIES = {
    "createCall",
    "answerCall",
    "getCall",
    "listParticipants",
    "getParticipant",
    "mute",
    "sendDtmfTones",
    "connect",
    "addParticipant",
    "removeParticipant",
    "cancelAddParticipant",
    "transferToParticipant",
    "moveParticipants",
}


def test_every_implemented_operation_has_its_exchange() -> None:
    assert set(EXCHANGES) == Api.implemented


@pytest.mark.parametrize("operation", EXCHANGES)
def test_an_operation_succeeds(in_memory: InMemory, operation: str) -> None:
    answer: RestAnswer = in_memory(EXCHANGES[operation])
    assert answer.status == BY_NAME[operation].success
    has_body = operation in BODIES
    assert bool(answer.content) == has_body
    assert answer.headers.get("content-type") == ("application/json; charset=utf-8" if has_body else None)
    assert answer.headers["x-ms-client-request-id"] == "the client's own id"
    assert answer.headers["x-ms-client-version"] == answer.headers["x-microsoft-skype-client"] == "sdk/1.6.0"
    assert answer.headers["api-supported-versions"] == SUPPORTED
    assert answer.headers["x-microsoft-skype-chain-id"]
    assert b"null" not in answer.content


# ------------------------------------------------------------------------------------------------ calls in detail


def test_a_call_is_shown_as_it_goes(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        app = await server.create(
            PHONE,
            source={"id": APP},
            sourceDisplayName="Support",
            sourceCallerIdNumber={"value": "+15550142"},
            mediaStreamingOptions={**OPTIONS, "startMediaStreaming": True},
        )
        await server.settle()
        ringing = (await server.rest("GET", f"{CALLS}/{app}")).body
        assert ringing["callConnectionState"] == "connecting"
        assert "serverCallId" not in ringing
        assert ringing["mediaStreamingSubscription"]["state"] == "inactive"
        phone.tell("answer")
        await server.settle()
        talking = (await server.rest("GET", f"{CALLS}/{app}")).body
        assert talking["callConnectionState"] == "connected"
        assert talking["serverCallId"] == server.event(app, "CallConnected").data["serverCallId"]
        assert talking["mediaStreamingSubscription"] == {
            **ringing["mediaStreamingSubscription"],
            "state": "active",
        }
        assert "answeredBy" not in talking, "only the side that answers has it (recorded 4.1)"
        for call in (ringing, talking):
            assert call["sourceCallerIdNumber"] == {"value": "+15550142"}
            assert call["sourceDisplayName"] == "Support"
            assert call["source"] == user(APP)
            assert call["targets"] == [number(PHONE)]

    in_memory(scenario)


def test_an_app_that_does_not_say_who_it_is_gets_an_identity(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        for _ in range(2):
            await server.create(OTHER)
        await server.settle()
        one, two = (offer["from"]["rawId"] for offer in server.incoming)
        assert one.startswith(f"8:acs:{RESOURCE}_")
        assert one != two

    in_memory(scenario)


def test_a_called_user_is_the_one_who_answers(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.create(OTHER)
        await server.settle()
        app = await server.answer()
        call = (await server.rest("GET", f"{CALLS}/{app}")).body
        assert call["targets"] == [user(OTHER)]
        assert call["answeredBy"] == {"id": OTHER}
        assert "sourceDisplayName" not in call, "of phone numbers only (recorded 4.1)"

    in_memory(scenario)


@pytest.mark.parametrize("spelling", ["4:+15550100", "4%3A%2B15550100", "4:%2B15550100"])
def test_a_participant_is_found_however_it_is_encoded(in_memory: InMemory, spelling: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer()
        assert (await server.rest("GET", f"{CALLS}/{app}/participants/{spelling}")).body["identifier"] == number(CALLER)
        nobody = await server.rest("GET", f"{CALLS}/{app}/participants/4%3A%2B15550199")
        assert (nobody.status, nobody.body["error"]["code"]) == (404, "8522")
        assert nobody.body["error"]["message"] == "Participant not found."

    in_memory(scenario)


def test_a_path_may_begin_with_two_slashes(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer()
        assert (await server.rest("GET", f"/{CALLS}/{app}")).status == 200

    in_memory(scenario)


@pytest.mark.parametrize(
    ("shape", "rate", "unmixed"),
    [
        ({}, 16_000, False),
        ({"audioFormat": "pcm24KMono"}, 24_000, False),
        ({"audioFormat": "Pcm24KMono", "contentType": "audio"}, 24_000, False),
        ({"audioFormat": "Pcm16KMono", "audioChannelType": "Unmixed"}, 16_000, True),
    ],
)
def test_streaming_options_of_every_generation(
    in_memory: InMemory, shape: dict[str, Any], rate: int, unmixed: bool
) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer(mediaStreamingOptions={**OPTIONS, **shape, "enableBidirectional": None})
        options = server.control.connection(app)[1].stream.options
        assert options is not None
        assert (options.rate, options.unmixed, options.bidirectional) == (rate, unmixed, False)

    in_memory(scenario)


@pytest.mark.parametrize("operation", ["startMediaStreaming", "stopMediaStreaming"])
def test_streaming_needs_options_and_an_established_call(in_memory: InMemory, operation: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.phone()
        app = await server.create(PHONE, mediaStreamingOptions=OPTIONS)
        early = await ask(server, operation, {}, app)
        assert (early.status, early.body["error"]["code"]) == (400, "8501")
        await server.call()
        without = await ask(server, operation, {}, await server.answer())
        assert (without.status, without.body["error"]["code"]) == (400, "8581")

    in_memory(scenario)


def test_an_operation_may_have_a_callback_of_its_own(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer(mediaStreamingOptions=OPTIONS)
        own = {"operationContext": "mine", "operationCallbackUri": "https://other.example/media"}
        await ask(server, "startMediaStreaming", own, app)
        await server.hang_up(app)
        urls = {event.kind: event.url for event in server.events(app)}
        assert urls["MediaStreamingStarted"] == "https://other.example/media"
        assert urls["CallDisconnected"] == "https://app.example/callback?code=secret"
        assert server.event(app, "MediaStreamingStarted").data["operationContext"] == "mine"

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ what is not there


@pytest.mark.parametrize(
    "operation", sorted(name for name in Api.implemented if "{callConnectionId}" in BY_NAME[name].path)
)
def test_an_unknown_call(in_memory: InMemory, operation: str) -> None:
    answer: RestAnswer = in_memory(lambda server: ask(server, operation, REQUESTS.get(operation)))
    assert answer.status == 404
    error = {"code": "8522", "message": "Call not found.", "target": path_of(operation)}
    assert answer.body == {"error": error}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-microsoft-skype-chain-id"]


@pytest.mark.parametrize("operation", sorted(set(BY_NAME) - Api.implemented))
def test_an_operation_that_is_not_there_yet_says_so(in_memory: InMemory, operation: str) -> None:
    answer: RestAnswer = in_memory(lambda server: ask(server, operation, {}))
    assert answer.status == 501
    assert answer.body["error"]["code"] == "8520"
    assert operation in answer.body["error"]["message"]
    assert "docs/coverage.md" in answer.body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CALLS, "POST"),
        ("PUT", f"{CALLS}/{NOBODY}", "GET, DELETE"),
        ("GET", f"{CALLS}:answer", "POST"),
        ("DELETE", f"{CALLS}/{NOBODY}/participants", "GET"),
    ],
)
def test_a_method_that_does_not_apply(in_memory: InMemory, method: str, path: str, allow: str) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest(method, path))
    assert (answer.status, answer.body["error"]["code"], answer.headers["allow"]) == (405, "8520", allow)


@pytest.mark.parametrize("path", ["/", "/calling", f"{CALLS}:mix", f"{CALLS}/{NOBODY}/participants:hug", "/phones"])
def test_a_path_that_leads_nowhere(in_memory: InMemory, path: str) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", path, {}))
    assert (answer.status, answer.body["error"]["code"]) == (404, "8522")


# ------------------------------------------------------------------------------------------------ bodies

CREATE = {"targets": [user(OTHER)], "callbackUri": CALLBACK}
LONG_CONTEXT, LONG_ID, LONG_URL = "c" * 5001, "8:" + "x" * 512, CALLBACK + "?" + "x" * 8192


def media(**options: Any) -> dict[str, Any]:
    return {**CREATE, "mediaStreamingOptions": {**OPTIONS, **options}}


def without(body: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != key}


WRONG: list[tuple[str, Any, str]] = [  # operation, body, what the message begins with
    ("createCall", without(CREATE, "targets"), "targets is required"),
    ("createCall", without(CREATE, "callbackUri"), "callbackUri is required"),
    ("createCall", {**CREATE, "targets": []}, "targets: "),
    ("createCall", {**CREATE, "targets": [user(OTHER)] * 101}, "targets: "),
    ("createCall", {**CREATE, "targets": [{}]}, "targets: "),
    ("createCall", {**CREATE, "targets": [{"rawId": LONG_ID}]}, "targets[0].rawId: "),
    ("createCall", {**CREATE, "targets": "everybody"}, "targets: "),
    ("createCall", {**CREATE, "callbackUri": 5}, "callbackUri: "),
    ("createCall", {**CREATE, "callbackUri": LONG_URL}, "callbackUri: "),
    ("createCall", {**CREATE, "operationContext": LONG_CONTEXT}, "operationContext: "),
    ("createCall", {**CREATE, "sourceDisplayName": ["Support"]}, "sourceDisplayName: "),
    ("createCall", {**CREATE, "source": {}}, "source.id is required"),
    ("createCall", {**CREATE, "source": {"id": LONG_ID}}, "source.id: "),
    ("createCall", {**CREATE, "sourceCallerIdNumber": {"value": ""}}, "sourceCallerIdNumber.value: "),
    ("createCall", media(transportType="carrier pigeon"), "mediaStreamingOptions.transportType: "),
    ("createCall", media(audioChannelType="stereo"), "mediaStreamingOptions.audioChannelType: "),
    ("createCall", media(audioFormat="pcm8KMono"), "mediaStreamingOptions.audioFormat: "),
    ("createCall", media(startMediaStreaming="yes"), "mediaStreamingOptions.startMediaStreaming: "),
    ("createCall", media(transportUrl="https://app.example/audio"), "transportUrl: "),
    ("createCall", [], "the body: "),
    ("createCall", b"{", "the body is not JSON: "),
    ("createCall", b"\xff", "the body is not JSON: "),
    ("createCall", b"", "targets is required"),
    ("answerCall", {"callbackUri": CALLBACK}, "incomingCallContext is required"),
    ("answerCall", {"incomingCallContext": "eyJ.", "callbackUri": CALLBACK}, "incomingCallContext: "),
    ("answerCall", {"incomingCallContext": "x" * 70_000, "callbackUri": CALLBACK}, "incomingCallContext: "),
    ("redirectCall", {"incomingCallContext": "x"}, "target is required"),
    ("redirectCall", {"incomingCallContext": "x", "target": {"rawId": PHONE}}, "incomingCallContext: "),
    ("rejectCall", {}, "incomingCallContext is required"),
    ("rejectCall", {"incomingCallContext": "x", "callRejectReason": "bored"}, "callRejectReason: "),
    ("startMediaStreaming", {"operationContext": LONG_CONTEXT}, "operationContext: "),
    ("startMediaStreaming", {"operationCallbackUri": "elsewhere"}, "operationCallbackUri: "),
    ("stopMediaStreaming", {"operationContext": {}}, "operationContext: "),
]


@pytest.mark.parametrize(
    ("operation", "body", "message"), WRONG, ids=[f"{w[0]} {w[2]}{i}" for i, w in enumerate(WRONG)]
)
def test_a_field_that_is_missing_or_wrong(in_memory: InMemory, operation: str, body: Any, message: str) -> None:
    answer: RestAnswer = in_memory(lambda server: ask(server, operation, body))
    assert (answer.status, answer.body["error"]["code"]) == (400, "8523")
    assert answer.body["error"]["message"].startswith(message)
    assert answer.body["error"]["target"] == path_of(operation)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.example",
        "/callback",
        "ftp://app.example/",
        "https://",
        "https:///callback",
        "https://app.example:port/",
        "https://app.example:70000/",
        "https://[::1/",
        "https://user:secret@app.example/",
        "https://app.example/a b",
        "https://app.example/\r\nHost: other.example",
        "https://app.example/\x00",
    ],
)
def test_a_url_that_cannot_be_dialled(in_memory: InMemory, url: str) -> None:
    answer: RestAnswer = in_memory(lambda server: ask(server, "createCall", {**CREATE, "callbackUri": url}))
    assert (answer.status, answer.body["error"]["code"]) == (400, "8523")
    assert answer.body["error"]["message"].startswith("callbackUri: must be an absolute http or https URL")


LOCAL = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "10.0.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "[::ffff:127.0.0.1]",
]


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("field", ["callbackUri", "transportUrl", "operationCallbackUri"])
def test_production_refuses_this_machine_and_its_network(in_memory: InMemory, field: str, host: str) -> None:
    async def scenario(server: MemoryServer) -> RestAnswer:
        if field == "operationCallbackUri":
            return await ask(server, "startMediaStreaming", {field: f"https://{host}/"})
        if field == "transportUrl":
            return await ask(server, "createCall", media(transportUrl=f"wss://{host}/audio"))
        return await ask(server, "createCall", {**CREATE, "callbackUri": f"https://{host}:8443/callback"})

    answer: RestAnswer = in_memory(scenario, private=False)
    assert (answer.status, answer.body["error"]["code"]) == (400, "8523")
    assert answer.body["error"]["message"].startswith(f"{field}: a")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1"])
def test_development_does_not(in_memory: InMemory, host: str) -> None:
    body = {**CREATE, "callbackUri": f"http://{host}:8080/callback"}
    answer: RestAnswer = in_memory(lambda server: ask(server, "createCall", body))
    assert answer.status == 201


# ------------------------------------------------------------------------------------------------ api-version


def test_the_api_version_is_required(in_memory: InMemory) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", CALLS, CREATE, version=None))
    assert (answer.status, answer.body["error"]["code"]) == (400, "8523")
    assert "api-version" in answer.body["error"]["message"]


@pytest.mark.parametrize(
    "version", ["2022-04-07-preview", "2023-03-06", "2024-11-15-preview", "2026-03-12", "2031-01-01", "anything"]
)
def test_any_api_version_is_taken_and_comes_back_on_the_events(in_memory: InMemory, version: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        created = await server.rest("POST", CALLS, CREATE, version=version)
        assert created.status == 201
        await server.settle()
        app = created.body["callConnectionId"]
        await server.answer()
        assert server.event(app, "CallConnected").data["version"] == version

    in_memory(scenario)


def test_an_api_version_from_the_future_is_warned_of_once(
    in_memory: InMemory, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: MemoryServer) -> None:
        for version in ("2023-03-06", "2031-01-01", "2031-01-01", "2026-03-12", "2032-01-01-preview"):
            await server.rest("GET", f"{CALLS}/{NOBODY}", version=version)

    with caplog.at_level(logging.WARNING, "offhook.server.api"):
        in_memory(scenario)
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        "2031-01-01",
        "2032-01-01-preview",
    ]


# ------------------------------------------------------------------------------------------------ repeatability

ONCE = {"Repeatability-Request-ID": "2f1b6a1e-8f4e-4c37-9c6b-6b1f7e1f0001", "Repeatability-First-Sent": "x"}


def test_a_repeated_answer_is_one_call(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        body = {"incomingCallContext": server.context, "callbackUri": CALLBACK}
        answers = []
        for seconds in (0, 5, 30):  # Python signs each try anew
            await server.settle(seconds)
            answers.append(await server.rest("POST", f"{CALLS}:answer", body, headers=ONCE))
        assert [answer.status for answer in answers] == [200] * 3
        assert len({answer.content for answer in answers}) == 1
        app = answers[0].body["callConnectionId"]
        assert server.kinds(app) == ["CallConnected", "ParticipantsUpdated"]
        (record,) = server.control.registry.calls.values()
        assert list(record.data.connections) == [app]

    in_memory(scenario)


def test_a_repeated_create_rings_once(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        answers = [await server.rest("POST", CALLS, CREATE, headers=ONCE) for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert len(server.control.registry.calls) == 1

    in_memory(scenario)


def test_a_repeated_terminate_succeeds_again(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer()
        for _ in range(2):
            answer = await server.rest("POST", f"{CALLS}/{app}:terminate", headers=ONCE)
            assert (answer.status, answer.headers["repeatability-result"]) == (204, "accepted")
        assert (await server.rest("POST", f"{CALLS}/{app}:terminate")).status == 404

    in_memory(scenario)


def test_a_repeated_id_with_another_request_is_refused(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        assert (await server.rest("POST", CALLS, CREATE, headers=ONCE)).status == 201
        for path, body in ((CALLS, {**CREATE, "sourceDisplayName": "x"}), (f"{CALLS}:answer", CREATE)):
            refused = await server.rest("POST", path, body, headers=ONCE)
            assert (refused.status, refused.body["error"]["code"]) == (412, "8583")
            assert refused.headers["repeatability-result"] == "rejected"

    in_memory(scenario)


def test_what_failed_may_be_tried_again(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        full = await server.create(OTHER)
        assert (await server.rest("POST", CALLS, CREATE, headers=ONCE)).status == 503
        await server.hang_up(full)
        assert (await server.rest("POST", CALLS, CREATE, headers=ONCE)).status == 201

    in_memory(scenario, max_calls=1)


# ------------------------------------------------------------------------------------------------ authentication


def flipped(text: str, at: int = -3) -> str:
    index = at % len(text)
    return text[:index] + chr(ord(text[index]) ^ 1) + text[index + 1 :]


@pytest.mark.parametrize(
    "part", ["nothing", "body", "path", "query", "date", "key", "host", "method", "hash", "signature"]
)
def test_one_bit_flipped(in_memory: InMemory, part: str) -> None:
    async def scenario(server: MemoryServer) -> RestAnswer:
        method, target, body, host = "POST", f"{CALLS}?api-version=2025-06-15", b'{"targets":[]}', "server.example"
        date = formatdate(server.wall(), usegmt=True)
        key = server.KEY if part != "key" else base64.b64encode(flipped("A" * 64).encode()).decode()
        headers = {"Host": host, **auth.sign(method, target, host, body, key, date)}
        match part:
            case "body":
                body = b'{"targets":{}}'
            case "path":
                target = target.replace("callConnections", flipped("callConnections"))
            case "query":
                target = flipped(target)
            case "date":
                headers["x-ms-date"] = formatdate(server.wall() + 1, usegmt=True)
            case "host":
                headers["Host"] = flipped(host)
            case "method":
                method = "PUT"
            case "hash":
                headers["x-ms-content-sha256"] = flipped(headers["x-ms-content-sha256"])
            case "signature":
                headers["Authorization"] = flipped(headers["Authorization"])
        return await server.send(method, target, headers, body)

    answer: RestAnswer = in_memory(scenario)
    if part == "nothing":
        assert answer.status == 400
    else:
        assert (answer.status, answer.body["error"]["code"]) == (401, "7509")
        assert "targets" not in answer.body["error"]["message"], "nothing of the body is looked at"


@pytest.mark.parametrize("header", ["Authorization", "x-ms-date", "x-ms-content-sha256"])
def test_a_header_that_is_missing(in_memory: InMemory, header: str) -> None:
    async def scenario(server: MemoryServer) -> RestAnswer:
        target = f"{CALLS}?api-version=2025-06-15"
        signed = auth.sign("POST", target, "server.example", b"", server.KEY, formatdate(server.wall(), usegmt=True))
        del signed[header]
        return await server.send("POST", target, {"Host": "server.example", **signed}, b"")

    assert in_memory(scenario).status == 401


def test_a_header_that_is_there_twice(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> RestAnswer:
        target = f"{CALLS}?api-version=2025-06-15"
        signed = auth.sign("POST", target, "server.example", b"", server.KEY, formatdate(server.wall(), usegmt=True))
        return await server.send("POST", target, {"Host": "server.example", **signed, "HOST": "other.example"}, b"")

    answer: RestAnswer = in_memory(scenario)
    assert answer.status == 401
    assert "host is there twice" in answer.body["error"]["message"]


@pytest.mark.parametrize(("seconds", "status"), [(-899, 404), (899, 404), (-901, 401), (901, 401)])
def test_the_window_is_fifteen_minutes(in_memory: InMemory, seconds: float, status: int) -> None:
    async def scenario(server: MemoryServer) -> RestAnswer:
        target = f"{CALLS}/{NOBODY}?api-version=2025-06-15"
        date = formatdate(server.wall() + seconds, usegmt=True)
        headers = auth.sign("GET", target, "server.example", b"", server.KEY, date)
        return await server.send("GET", target, {"Host": "server.example", **headers}, b"")

    assert in_memory(scenario).status == status


def test_either_key_opens(in_memory: InMemory) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest("GET", f"{CALLS}/{NOBODY}", key=server.SECOND_KEY))
    assert answer.status == 404


@pytest.mark.parametrize("path", [CALLS, f"{CALLS}/{NOBODY}:play", "/identities", "/offhook/calls", "/nowhere"])
def test_nothing_is_told_without_a_key(in_memory: InMemory, path: str) -> None:
    answer: RestAnswer = in_memory(lambda server: server.send("POST", path, {"Host": "server.example"}, b"{}"))
    assert (answer.status, answer.body["error"]["code"]) == (401, "7509")


# ------------------------------------------------------------------------------------------------ bad days


def test_a_body_that_is_too_large(in_memory: InMemory) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", CALLS, b" " * (BODY_LIMIT + 1)))
    assert (answer.status, answer.body["error"]["code"]) == (413, "8523")
    answer = in_memory(lambda server: server.rest("POST", CALLS, b" " * BODY_LIMIT))
    assert answer.status == 400


def test_a_body_that_never_arrives(in_memory: InMemory) -> None:
    answer: RestAnswer = in_memory(lambda server: server.send("POST", CALLS, {"Host": "server.example"}, None))
    assert answer.status == 408


def test_a_fault_of_ours_is_said_in_the_envelope(
    in_memory: InMemory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: MemoryServer) -> RestAnswer:
        monkeypatch.setattr(server.control, "create_call", lambda *_: 1 / 0)
        return await server.rest("POST", CALLS, CREATE)

    answer: RestAnswer = in_memory(scenario)
    assert answer.status == 500
    assert answer.body["error"] == {"code": "9999", "message": "Internal error.", "target": CALLS}
    assert "ZeroDivisionError" in caplog.text


# ------------------------------------------------------------------------------------------------ identities


def test_an_identity(in_memory: InMemory) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", "/identities", {}, version="2023-10-01"))
    assert answer.status == 201
    assert answer.body == {"identity": {"id": answer.body["identity"]["id"]}}
    assert answer.body["identity"]["id"].startswith(f"8:acs:{RESOURCE}_")


def test_an_identity_with_a_token(in_memory: InMemory) -> None:
    body = {"createTokenWithScopes": ["voip"], "expiresInMinutes": 60}
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", "/identities", body, version="2023-10-01"))
    assert set(answer.body) == {"identity", "accessToken"}
    assert set(answer.body["accessToken"]) == {"token", "expiresOn"}


def test_an_identity_is_mine_to_call(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        minted = (await server.rest("POST", "/identities", b"")).body["identity"]["id"]
        await server.create(minted)
        await server.settle()
        assert server.incoming[-1]["to"] == user(minted)

    in_memory(scenario)
