"""Our answers and events against those that the real service was recorded giving (recorded 7).

Each recorded exchange is gone through again on a server in memory, and ours is held against it: the same status, the
same keys present and absent, the same types, never null, enums spelled as the SDKs do. What differs on purpose is in
`DIFFERENCES`, and in the same words in docs/differences.md.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from offhook.server.api import Api
from offhook.server.webhooks import KINDS
from offhook.wire.operations import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, Posted, RestAnswer

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "recorded-shapes.json").read_text())
EXTRACT = json.loads((HERE / "api-extracts" / "callautomation-2026-03-12.sdk-extract.json").read_text())
PAGE = HERE.parents[1] / "docs" / "differences.md"

CALLS = "/calling/callConnections"
CALLBACK = "https://app.example/callback"
AUDIO = "wss://app.example/audio"
CALLER, NUMBER, PHONE = "4:+15550100", "4:+15550199", "4:+15550177"
RESOURCE = "11111111-2222-4333-8444-555555555555"
APP = f"8:acs:{RESOURCE}_00000000-0000-4000-8000-00000000000a"
OTHER = f"8:acs:{RESOURCE}_00000000-0000-4000-8000-00000000000b"
THIRD = "8:acs:11111111-1111-4111-8111-111111111111_0000001a-0000-0000-0000-00000000000c"  # of E9
ONCE = {"Repeatability-Request-ID": "2f1b6a1e-8f4e-4c37-9c6b-6b1f7e1f0001", "Repeatability-First-Sent": "x"}


# ------------------------------------------------------------------------------------------------ on purpose


class Difference(NamedTuple):
    """What differs on purpose. `keys`: `+` we have it and the recording has not, `-` the other way round, `~` it has
    another value.

    `before`: this concerns recordings of older api-versions only; the newer ones, which are nearest to the one that we
    speak, show what we do. "all": there is no newer one that does.
    """

    where: str  # operations or events; `*` is any
    keys: str
    before: str
    why: str

    def pairs(self) -> set[tuple[str, str]]:
        return {(where, key) for where in self.where.split(", ") for key in self.keys.split(", ")}


CALL_BODY = "createCall, answerCall, getCall"
SIGNALLING = "CallConnected, ParticipantsUpdated, CallDisconnected"
ADDED = "newer: every api-version is answered as the newest one, and SDKs ignore what they do not know"
GONE = "newer recordings do not have it any more"
DIFFERENCES = [
    Difference("*", "+header api-supported-versions, +header x-ms-client-version", "2025", ADDED),
    Difference(CALL_BODY, "+mediaStreamingSubscription", "2024-06-15", ADDED),
    Difference(CALL_BODY, "-mediaSubscriptionId, -dataSubscriptionId", "2024-11-15", GONE),
    Difference("getCall", "+transcriptionSubscription", "2024-09-01", ADDED),
    Difference(
        "getCall",
        "-transcriptionSubscription.id, -transcriptionSubscription.locale, "
        "~transcriptionSubscription.subscribedResultTypes",
        "all",
        "transcription is not implemented and always shown as disabled",
    ),
    Difference(SIGNALLING, "+version, +publicEventType", "2024", ADDED),
    Difference(SIGNALLING, "+resultInformation", "2024-09", ADDED),
    Difference("ParticipantsUpdated", "+participants[].isOnHold", "2024", ADDED),
    Difference("MediaStreamingStarted, MediaStreamingStopped", "-eventSource", "2024-06", GONE),
    Difference("addParticipant", "+participant.isOnHold", "2024", ADDED),
    Difference("PlayCompleted, ContinuousDtmfRecognitionStopped", "+version, +publicEventType", "2024", ADDED),
    Difference("ContinuousDtmfRecognitionStopped", "+resultInformation", "2024", ADDED),
    Difference(
        "PlayFailed, RecognizeFailed, HoldFailed",
        "~resultInformation.message",
        "all",
        "after the recorded text comes ` Cause:` and what is wrong with the source",
    ),
    Difference("CallDisconnected", "~resultInformation.message", "2025-06", "the text of 7000 changed in June 2025"),
]


def test_the_page_has_the_same_table() -> None:
    section = PAGE.read_text("utf-8").partition("\n## Against the recordings\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    _, _, *rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    assert [Difference(*row) for row in rows] == DIFFERENCES


# ------------------------------------------------------------------------------------------------ comparing

PARTICIPANTS = ("participants[]", "value[]")  # lists of people of any kind, of whom a recording shows one


def shape(value: Any) -> Any:
    """Turn JSON into the form of the recordings."""
    match value:
        case dict():
            return {key: shape(inner) for key, inner in value.items()}
        case list():
            return [shape(inner) for inner in value]
        case bool():
            return "boolean"
        case int():
            return "integer"
        case str():
            return "string"
        case _:
            return "null"


def is_identifier(value: Any) -> bool:
    return isinstance(value, dict) and "rawId" in value and "kind" in value and len(value) == 3


def differences(recorded: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Yield what differs between two shapes, as one of `Difference.keys`."""
    match recorded, ours:
        case dict(), dict() if is_identifier(recorded) and is_identifier(ours) and path.startswith(PARTICIPANTS):
            pass
        case dict(), dict():
            dot = f"{path}." if path else ""
            yield from (f"-{dot}{key}" for key in recorded if key not in ours)
            yield from (f"+{dot}{key}" for key in ours if key not in recorded)
            for key in recorded.keys() & ours.keys():
                yield from differences(recorded[key], ours[key], f"{dot}{key}")
        case [first, *_], [_, *_]:
            for each in ours:
                yield from differences(first, each, f"{path}[]")
        case _:
            if recorded != ours:
                yield f"~{path}"


def excused(where: str, version: str) -> set[str]:
    rows = [each for each in DIFFERENCES if each.before == "all" or version[:10] < each.before]
    return {key for each in rows for place, key in each.pairs() if place in ("*", where)}


ENUMS = {
    "kind": "CommunicationIdentifierModelKind",
    "callConnectionState": "CallConnectionState",
    "state": "MediaStreamingSubscriptionState",
    "mediaStreamingStatus": "MediaStreamingStatus",
    "mediaStreamingStatusDetails": "MediaStreamingStatusDetails",
}


def check_spelling(body: Any) -> None:
    """Every identifier is whole, and every enum has a value that the SDKs know, spelled as they spell it."""
    if isinstance(body, list):
        for each in body:
            check_spelling(each)
    elif isinstance(body, dict):
        if "rawId" in body:
            assert set(body) == {"rawId", "kind", body["kind"]}
        for key, value in body.items():
            if key in ENUMS:
                assert value in EXTRACT["enums"][ENUMS[key]], key
            if key == "contentType":
                assert value == "Audio", "recorded so, unlike the enum"
            check_spelling(value)


# ------------------------------------------------------------------------------------------------ answers

Recorded = dict[str, Any]


class Session:
    """One server, asked with one api-version."""

    def __init__(self, server: MemoryServer, version: str) -> None:
        self.server = server
        self.version = version

    async def ask(self, operation: str, body: Any = None, connection: str = "", participant: str = "") -> RestAnswer:
        found = next(each for each in OPERATIONS if each.name == operation)
        path = found.path.replace("{callConnectionId}", connection).replace("{participantRawId}", participant)
        sent = {"x-ms-client-request-id": "id", "User-Agent": "sdk", **(ONCE if found.repeatable else {})}
        # Each operation is asked once in a session, so the same repeatability id would stand for different requests.
        sent |= {"Repeatability-Request-ID": operation} if found.repeatable else {}
        answer = await self.server.rest(found.method, path, body, version=self.version, headers=sent)
        await self.server.settle()
        return answer

    async def create(self, **more: Any) -> str:
        """App "a" calls user OTHER."""
        target = {"rawId": OTHER, "communicationUser": {"id": OTHER}}
        created = await self.ask(
            "createCall", {"targets": [target], "source": {"id": APP}, "callbackUri": CALLBACK, **more}
        )
        return str(created.body["callConnectionId"])

    async def answer(self, **more: Any) -> str:
        """App "b" answers."""
        body = {"incomingCallContext": self.server.context, "callbackUri": CALLBACK, "answeredBy": {"id": OTHER}}
        answered = await self.ask("answerCall", {**body, **more})
        return str(answered.body["callConnectionId"])

    async def connect(self) -> str:
        """App "c" connects to the call of "a" and "b"."""
        await self.talk()
        (record,) = self.server.control.registry.calls.values()
        locator = {"kind": "serverCallLocator", "serverCallId": record.data.server_call_id}
        connected = await self.ask("connect", {"callLocator": locator, "callbackUri": CALLBACK})
        return str(connected.body["callConnectionId"])

    async def telephone(self) -> str:
        """App "a" calls a phone, which answers."""
        phone = await self.server.phone(PHONE)
        target = {"rawId": PHONE, "phoneNumber": {"value": PHONE[2:]}}
        created = await self.ask("createCall", {"targets": [target], "source": {"id": APP}, "callbackUri": CALLBACK})
        phone.tell("answer")
        await self.server.settle()
        return str(created.body["callConnectionId"])

    async def talk(self, **more: Any) -> tuple[str, str]:
        """App "a" calls app "b", who answers; `more` goes with both requests."""
        created = await self.create(**more)
        return created, await self.answer(**more)


STREAMING = {"transportUrl": AUDIO, "transportType": "websocket", "contentType": "audio", "audioChannelType": "mixed"}
WORDS = {
    "callbackUri": CALLBACK,
    "id": APP,
    "value": PHONE[2:],
    "transportUrl": AUDIO,
    "transportType": "websocket",
    "audioChannelType": "mixed",
    "uri": "https://app.example/no-sound",
    "text": "440 0.1",  # a tone
    "voiceKind": "male",
    "tone": "one",
}


def filled(request: Any, key: str = "") -> Any:
    """Turn the shape of a recorded request back into a request."""
    match request:
        case {"kind": _, "file": _} | {"kind": _, "text": _}:
            kind = "file" if "file" in request else "text"
            return {"kind": kind, kind: filled(request[kind])}
        case {"recognizeInputType": _, "recognizeOptions": options}:
            kind = "choices" if "choices" in options else "dtmf"
            return {**{name: filled(value, name) for name, value in request.items()}, "recognizeInputType": kind}
        case list() if key in ("tones", "stopTones"):
            return ["one" for _ in request]
        case {"rawId": _, "phoneNumber": _}:
            return {"rawId": PHONE, "phoneNumber": {"value": PHONE[2:]}}
        case {"rawId": _}:
            return {**request, "rawId": OTHER, "communicationUser": {"id": OTHER}}
        case dict():
            return {name: filled(value, name) for name, value in request.items()}
        case list():
            return [filled(value) for value in request]
        case "boolean":
            return False
        case "integer":
            return 5
        case _:
            return WORDS.get(key, "word")


async def create_call(session: Session, recorded: Recorded) -> RestAnswer:
    await session.server.phone(PHONE)
    return await session.ask("createCall", filled(recorded["request"]))


async def answer_call(session: Session, recorded: Recorded) -> RestAnswer:
    if "phoneNumber" in recorded["response"]["source"]:
        await session.server.call()
    else:
        await session.create()
    body = filled(recorded["request"])
    return await session.ask("answerCall", {**body, "incomingCallContext": session.server.context})


async def get_call(session: Session, recorded: Recorded) -> RestAnswer:
    if recorded["status"] == 404:
        created, _ = await session.talk()
        await session.ask("terminate", connection=created)
        return await session.ask("getCall", connection=created)
    shown = recorded["response"]
    if not shown["targets"]:  # what an app sees that connected to the call
        return await session.ask("getCall", connection=await session.connect())
    streaming = "id" in shown.get("mediaStreamingSubscription", {})
    more: dict[str, Any] = {"mediaStreamingOptions": STREAMING} if streaming else {}
    if "serverCallId" not in shown:
        return await session.ask("getCall", connection=await session.create(**more))
    created, answered = await session.talk(**more)
    return await session.ask("getCall", connection=answered if "answeredBy" in shown else created)


async def connect(session: Session, recorded: Recorded) -> RestAnswer:
    await session.talk()
    (record,) = session.server.control.registry.calls.values()
    body = filled(recorded["request"])
    locator = {"kind": "serverCallLocator", "serverCallId": record.data.server_call_id}
    return await session.ask("connect", {**body, "callLocator": locator})


async def reject_call(session: Session, recorded: Recorded) -> RestAnswer:
    await session.create()
    body = {"incomingCallContext": session.server.context, "callRejectReason": "none"}
    assert set(body) == set(recorded["request"])
    return await session.ask("rejectCall", body)


async def ask_in_call(session: Session, recorded: Recorded, operation: str) -> RestAnswer:
    created, _ = await session.talk(mediaStreamingOptions=STREAMING)
    body = None if recorded["request"] is None else filled(recorded["request"])
    return await session.ask(operation, body, created, OTHER)


async def ask_on_the_phone(session: Session, recorded: Recorded, operation: str) -> RestAnswer:
    return await session.ask(operation, filled(recorded["request"]), await session.telephone())


Driver = Callable[[Session, Recorded], Awaitable["RestAnswer"]]
DRIVERS: dict[str, Driver] = {
    "createCall": create_call,
    "answerCall": answer_call,
    "getCall": get_call,
    "rejectCall": reject_call,
    "connect": connect,
    **{
        operation: lambda session, recorded, operation=operation: ask_in_call(session, recorded, operation)  # type: ignore[misc]
        for operation in (
            "hangUp",
            "terminate",
            "listParticipants",
            "getParticipant",
            "startMediaStreaming",
            "stopMediaStreaming",
            "play",
            "recognize",
            "cancelAllMediaOperations",
            "mute",
            "hold",
            "unhold",
            "addParticipant",
            "removeParticipant",
            "cancelAddParticipant",
            "transferToParticipant",
        )
    },
    **{
        operation: lambda session, recorded, operation=operation: ask_on_the_phone(session, recorded, operation)  # type: ignore[misc]
        for operation in ("startContinuousDtmfRecognition", "stopContinuousDtmfRecognition", "sendDtmfTones")
    },
}


def comparable(recorded: Recorded) -> bool:
    """The 2022 previews had another API."""
    return not recorded["api_version"].startswith("2022")


EXCHANGES = [
    pytest.param(operation, recorded, id=f"{operation} {recorded['status']} {recorded['file']}")
    for operation in DRIVERS
    for recorded in RECORDED["operations"][operation]
    if comparable(recorded)
]
TRANSPORT = {"date", "content-length"}  # headers that are the web server's


def found_in(operation: str, recorded: Recorded, answer: RestAnswer) -> set[str]:
    """Every difference between an answer of ours and the recorded one."""
    found = set() if answer.status == recorded["status"] else {"~status"}
    theirs = {name.lower() for name in recorded["response_headers"]} - TRANSPORT
    ours = set(answer.headers) - TRANSPORT
    found |= {f"-header {name}" for name in theirs - ours} | {f"+header {name}" for name in ours - theirs}
    return found | set(differences(recorded["response"] or {}, shape(answer.body or {})))


def test_every_implemented_operation_that_was_recorded_is_compared() -> None:
    assert set(DRIVERS) == Api.implemented & set(RECORDED["operations"])


def go_through(in_memory: InMemory, operation: str, recorded: Recorded) -> set[str]:
    """Have the recorded exchange with our server, and return what differs."""
    version = recorded["api_version"]
    answer: RestAnswer = in_memory(lambda server: DRIVERS[operation](Session(server, version), recorded))
    check_spelling(answer.body)
    return found_in(operation, recorded, answer)


@pytest.mark.parametrize(("operation", "recorded"), EXCHANGES)
def test_an_answer_has_the_recorded_shape(in_memory: InMemory, operation: str, recorded: Recorded) -> None:
    assert go_through(in_memory, operation, recorded) - excused(operation, recorded["api_version"]) == set()


# ------------------------------------------------------------------------------------------------ events


async def incoming_call(session: Session, recorded: Recorded) -> Posted:
    if "phoneNumber" in recorded["data"]["to"]:
        await session.server.call()
    elif "customContext" in recorded["data"]:
        await session.server.call(to=OTHER, from_=APP, customContext={})
    else:
        await session.create()
    return session.server.posted[-1]


async def in_a_call(session: Session, recorded: Recorded, kind: str) -> Posted:
    created, _ = await session.talk()
    return session.server.event(created, kind)


async def streaming(session: Session, recorded: Recorded, kind: str) -> Posted:
    created, _ = await session.talk(mediaStreamingOptions=STREAMING)
    context = {"operationContext": "word"} if "operationContext" in recorded["data"] else {}
    await session.ask("startMediaStreaming", context, created)
    await session.ask("stopMediaStreaming", {}, created)
    return session.server.event(created, kind)


async def rejected(session: Session, recorded: Recorded, kind: str) -> Posted:
    created = await session.create()
    await session.ask("rejectCall", {"incomingCallContext": session.server.context})
    return session.server.event(created, kind)


async def disconnected(session: Session, recorded: Recorded) -> Posted:
    kind, code = "CallDisconnected", recorded.get("resultInformation", {}).get("subCode")
    if code == 5002:
        return await rejected(session, recorded, kind)
    created, answered = await session.talk()
    await session.ask("terminate", connection=created)
    return session.server.event(answered if code == 5001 else created, kind)


async def people(session: Session, recorded: Recorded, kind: str) -> Posted:
    """App "a" adds an app, and calls that off; or it removes app "b"."""
    created, _ = await session.talk()
    more = {"operationContext": "word"} if "operationContext" in recorded["data"] else {}
    if kind == "RemoveParticipantSucceeded":
        await session.ask("removeParticipant", {"participantToRemove": {"rawId": OTHER}, **more}, created)
        return session.server.event(created, kind)
    added = await session.ask("addParticipant", {"participantToAdd": {"rawId": THIRD}, **more}, created)
    if kind == "CancelAddParticipantSucceeded":
        await session.ask("cancelAddParticipant", {"invitationId": added.body["invitationId"], **more}, created)
    else:
        await session.server.answer(callbackUri="https://third.example/")
    return session.server.event(created, kind)


BAD, SOUND = {"kind": "file", "file": {"uri": "https://x/no-sound"}}, {"kind": "text", "text": {"text": "440 0.1"}}


async def played(session: Session, recorded: Recorded, kind: str) -> Posted:
    """App "a" plays something; it is canceled when that is what was recorded."""
    created, _ = await session.talk()
    body: dict[str, Any] = {"playSources": [BAD if kind == "PlayFailed" else SOUND]}
    if "operationContext" in recorded["data"]:
        body["operationContext"] = "word"
    await session.ask("play", body, created)
    if kind == "PlayCanceled":
        await session.ask("cancelAllMediaOperations", connection=created)
    await session.server.settle(1)
    return session.server.event(created, kind)


async def recognize_failed(session: Session, recorded: Recorded) -> Posted:
    """Nobody presses anything, or the prompt is bad."""
    created, _ = await session.talk()
    options = {"targetParticipant": {"rawId": OTHER}}
    body: dict[str, Any] = {"recognizeInputType": "dtmf", "recognizeOptions": options, "operationContext": "word"}
    if "failedPlaySourceIndex" in recorded["data"]:
        body["playPrompts"] = [BAD]
    await session.ask("recognize", body, created)
    await session.server.settle(6)
    return session.server.event(created, "RecognizeFailed")


async def hold_failed(session: Session, recorded: Recorded) -> Posted:
    created, _ = await session.talk()
    body = {"targetParticipant": {"rawId": OTHER}, "playSourceInfo": BAD, "operationContext": "word"}
    await session.ask("hold", body, created)
    return session.server.event(created, "HoldFailed")


async def tones(session: Session, recorded: Recorded, kind: str) -> Posted:
    """Keys are watched no more, and tones are sent."""
    created = await session.telephone()
    target = {"targetParticipant": {"rawId": PHONE}}
    await session.ask("startContinuousDtmfRecognition", target, created)
    await session.ask("stopContinuousDtmfRecognition", target, created)
    await session.ask("sendDtmfTones", {**target, "tones": ["one"]}, created)
    await session.server.settle(1)
    return session.server.event(created, kind)


EventDriver = Callable[[Session, Recorded], Awaitable["Posted"]]
EVENT_DRIVERS: dict[str, EventDriver] = {
    "IncomingCall": incoming_call,
    "CallConnected": lambda session, recorded: in_a_call(session, recorded, "CallConnected"),
    "ParticipantsUpdated": lambda session, recorded: in_a_call(session, recorded, "ParticipantsUpdated"),
    "MediaStreamingStarted": lambda session, recorded: streaming(session, recorded, "MediaStreamingStarted"),
    "MediaStreamingStopped": lambda session, recorded: streaming(session, recorded, "MediaStreamingStopped"),
    "CallDisconnected": disconnected,
    "CreateCallFailed": lambda session, recorded: rejected(session, recorded, "CreateCallFailed"),
    **{
        kind: lambda session, recorded, kind=kind: played(session, recorded, kind)  # type: ignore[misc]
        for kind in ("PlayStarted", "PlayCompleted", "PlayFailed", "PlayCanceled")
    },
    **{
        kind: lambda session, recorded, kind=kind: people(session, recorded, kind)  # type: ignore[misc]
        for kind in ("AddParticipantSucceeded", "CancelAddParticipantSucceeded", "RemoveParticipantSucceeded")
    },
    "RecognizeFailed": recognize_failed,
    "HoldFailed": hold_failed,
    **{
        kind: lambda session, recorded, kind=kind: tones(session, recorded, kind)  # type: ignore[misc]
        for kind in ("ContinuousDtmfRecognitionStopped", "SendDtmfTonesCompleted")
    },
}
EVENTS = [
    pytest.param(kind, recorded, id=f"{kind} {recorded['file']}")
    for kind in EVENT_DRIVERS
    for recorded in RECORDED["events"][kind]
]


def version_of(recorded: Recorded) -> str:
    version: str = recorded["version"]
    return version if version.startswith("20") else "2023-09-15-preview"  # E20, before events named theirs


def happen_again(in_memory: InMemory, kind: str, recorded: Recorded) -> set[str]:
    """Make the recorded event happen on our server, and return what differs."""
    version = version_of(recorded)
    posted: Posted = in_memory(lambda server: EVENT_DRIVERS[kind](Session(server, version), recorded))
    check_spelling(posted.data)
    found = set(differences(recorded["data"], shape(posted.data)))
    theirs, ours = recorded.get("resultInformation", {}), posted.data.get("resultInformation", {})
    return found | {f"~resultInformation.{key}" for key in theirs if theirs[key] != ours[key]}


def test_every_event_of_ours_that_was_recorded_is_compared() -> None:
    assert set(EVENT_DRIVERS) == (set(KINDS.values()) | {"IncomingCall"}) & set(RECORDED["events"])


@pytest.mark.parametrize(("kind", "recorded"), EVENTS)
def test_an_event_has_the_recorded_shape(in_memory: InMemory, kind: str, recorded: Recorded) -> None:
    assert happen_again(in_memory, kind, recorded) - excused(kind, version_of(recorded)) == set()


# ------------------------------------------------------------------------------------------------ the table


def test_every_difference_is_there(in_memory: InMemory) -> None:
    """Nothing is excused that need not be."""
    seen = {
        (operation, key)
        for operation, recorded in values(EXCHANGES)
        for key in go_through(in_memory, operation, recorded)
    }
    seen |= {(kind, key) for kind, recorded in values(EVENTS) for key in happen_again(in_memory, kind, recorded)}
    seen |= {("*", key) for _, key in seen}
    assert [pair for each in DIFFERENCES for pair in each.pairs() if pair not in seen] == []


def values(parameters: list[Any]) -> list[Any]:
    return [parameter.values for parameter in parameters]
