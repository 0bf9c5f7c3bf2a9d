"""Whatever a request gets wrong, its answer is a documented error, and the server goes on.

Faults one by one, derived from the published description: each field missing, of the wrong type, too long, too many;
then whatever schemathesis makes of that description, in sequences, on a server with a call under way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok

from offhook.call.refusals import Refusal
from offhook.server import openapi
from offhook.server.api import Api
from offhook.server.requests import REFUSALS
from offhook.wire.operations import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, RestAnswer

WIRE = (Path(__file__).parents[2] / "docs/wire.md").read_text("utf-8")
DOCUMENTED = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| (\d{4}) \|", WIRE, re.MULTILINE)}
CALL, VERSION = "{callConnectionId}", "2026-03-12"
GONE = "00000000-0000-4000-8000-000000000000"
CALLBACK = "https://app.example/callback"
STREAM = {"transportType": "websocket", "audioChannelType": "mixed", "transportUrl": "wss://app.example/audio"}
CALLER = {"rawId": "<caller>"}
FILE = {"kind": "file", "file": {"uri": "https://app.example/prompt.wav"}}
LOCATOR = {"kind": "serverCallLocator", "serverCallId": "<serverCallId>"}

OPERATION = {operation.name: operation for operation in OPERATIONS if operation.name in Api.implemented}
OPERATION["createIdentity"] = openapi.CREATE_IDENTITY
DESCRIBED = openapi.describe(Api.implemented)

# A good body for each operation that takes one; what is in <> is filled in with what there is on the server.
GOOD: dict[str, dict[str, Any]] = {
    "createIdentity": {"createTokenWithScopes": ["voip"], "expiresInMinutes": 60},
    "createCall": {"targets": [{"rawId": "4:+15550177"}], "callbackUri": CALLBACK, "mediaStreamingOptions": STREAM},
    "answerCall": {"incomingCallContext": "<context>", "callbackUri": CALLBACK, "mediaStreamingOptions": STREAM},
    "redirectCall": {"incomingCallContext": "<context>", "target": {"rawId": "4:+15550177"}},
    "rejectCall": {"incomingCallContext": "<context>", "callRejectReason": "busy"},
    "connect": {"callLocator": LOCATOR, "callbackUri": CALLBACK, "mediaStreamingOptions": STREAM},
    "transferToParticipant": {"targetParticipant": {"rawId": "4:+15550177"}, "transferee": CALLER},
    "addParticipant": {"participantToAdd": {"rawId": "4:+15550177"}, "invitationTimeoutInSeconds": 30},
    "removeParticipant": {"participantToRemove": CALLER},
    "mute": {"targetParticipants": [CALLER]},
    "cancelAddParticipant": {"invitationId": GONE},
    "moveParticipants": {"targetParticipants": [CALLER], "fromCall": GONE},
    "play": {"playSources": [FILE], "playTo": [CALLER], "playOptions": {"loop": False}},
    "recognize": {
        "recognizeInputType": "dtmf",
        "recognizeOptions": {"targetParticipant": CALLER, "dtmfOptions": {"maxTonesToCollect": 1}},
        "playPrompt": FILE,
    },
    "startContinuousDtmfRecognition": {"targetParticipant": CALLER},
    "stopContinuousDtmfRecognition": {"targetParticipant": CALLER},
    "sendDtmfTones": {"tones": ["one"], "targetParticipant": CALLER},
    "hold": {"targetParticipant": CALLER},
    "unhold": {"targetParticipant": CALLER},
    "startMediaStreaming": {"operationContext": "context"},
    "stopMediaStreaming": {"operationContext": "context"},
}


class Stage:
    """A server with a call that an app has answered, another one that rings, and one that is over."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.values: dict[str, str] = {}

    async def begin(self) -> None:
        """Let it ring last, so that the newest IncomingCall is the one that rings."""
        server = self.server
        await server.phone("+15550177")
        await server.call("+15550101")
        self.ended = await server.answer()
        await server.hang_up(self.ended)
        caller = await server.call("+15550102")
        self.call = await server.answer(mediaStreamingOptions={**STREAM, "startMediaStreaming": True})
        call, _ = server.control.connection(self.call)
        stranger = await server.call("+15550103")
        self.values = {
            "<caller>": caller.raw_id,
            "<stranger>": stranger.raw_id,
            "<serverCallId>": call.server_call_id,
            "<context>": server.context,
            CALL: self.call,
            "{participantRawId}": quote(caller.raw_id, safe=""),
        }

    def filled(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    async def ask(self, name: str, body: Any = None, path: str = "", version: str | None = VERSION) -> RestAnswer:
        """Ask for an operation; `path` instead of the one that names what is there."""
        operation = OPERATION[name]
        content = None if body is None else self.filled(json.dumps(body)).encode()
        path = path or self.filled(operation.path)
        return await self.server.rest(operation.method, path, content, version=version)


def assert_documented(name: str, answer: RestAnswer) -> None:
    """A success with the body that is described, or an error in the envelope that docs/wire.md has."""
    operation = OPERATION[name]
    responses = DESCRIBED["paths"][operation.path][operation.method.lower()]["responses"]
    if answer.status >= 400:
        assert (answer.status, answer.body["error"]["code"]) in DOCUMENTED, answer.content
        assert answer.body["error"]["target"].startswith("/")
    response = responses["default" if answer.status >= 400 else str(answer.status)]
    assert bool(answer.content) == ("content" in response), answer.content
    if answer.content:
        schema = response["content"]["application/json"]["schema"]
        jsonschema_rs.validate({**schema, "components": DESCRIBED["components"]}, answer.body)


# ------------------------------------------------------------------------------------------------ one fault at a time


def test_every_refusal_has_a_code_and_is_documented() -> None:
    assert REFUSALS.keys() == {*Refusal}
    assert {*REFUSALS.values()} <= DOCUMENTED


WRONG: dict[str, Any] = {"string": 5, "integer": "x", "number": "x", "boolean": "x", "array": {}, "object": []}


def spoiled(schema: Mapping[str, Any], value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """Each way to spoil a good value: the field that is wrong then, and the value with that fault.

    A field that the good value leaves out is there with a value of the wrong type.
    """
    schema = plain(schema)
    kind = schema["type"]
    yield at, WRONG[kind]
    if kind == "object" and isinstance(value, dict):
        for name in schema.get("required", ()):
            field = f"{at}.{name}".lstrip(".")
            yield field, {key: kept for key, kept in value.items() if key != name}
            yield field, {**value, name: None}
        for name, inner in schema.get("properties", {}).items():
            for field, bad in spoiled(inner, value.get(name), f"{at}.{name}".lstrip(".")):
                yield field, {**value, name: bad}
    elif kind == "array" and value:
        if "maxItems" in schema:
            yield at, value[:1] * (schema["maxItems"] + 1)
        if schema.get("minItems"):
            yield at, []
        for field, bad in spoiled(schema["items"], value[0], f"{at}[0]"):
            yield field, [bad, *value[1:]]
    elif kind == "string":
        if "maxLength" in schema:
            yield at, "x" * (schema["maxLength"] + 1)
        if "enum" in schema:
            yield at, "nonsense"
    elif kind == "integer":
        if "maximum" in schema:
            yield at, schema["maximum"] + 1
        if "minimum" in schema:
            yield at, schema["minimum"] - 1


def plain(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without references, and without null."""
    if "$ref" in schema:
        return plain(DESCRIBED["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return plain(next(each for each in schema["anyOf"] if each.get("type") != "null"))
    return schema


def body_schema(name: str) -> Mapping[str, Any] | None:
    operation = OPERATION[name]
    described = DESCRIBED["paths"][operation.path][operation.method.lower()]
    if "requestBody" not in described:
        return None
    schema: Mapping[str, Any] = described["requestBody"]["content"]["application/json"]["schema"]
    return schema


WITH_BODY = sorted(name for name in OPERATION if body_schema(name))


@pytest.mark.parametrize("name", WITH_BODY)
def test_every_fault_of_a_body_is_told_with_its_field(name: str, in_memory: InMemory) -> None:
    schema = body_schema(name)
    assert schema is not None
    faults = [*spoiled(schema, GOOD[name], "")]
    assert len(faults) > 1

    async def scenario(server: MemoryServer) -> None:
        stage = Stage(server)
        await stage.begin()
        for field, bad in faults:
            answer = await stage.ask(name, bad)
            shown = json.dumps(bad)[:300]
            assert (answer.status, answer.body["error"]["code"]) == (400, "8523"), (field, shown, answer.content)
            assert answer.body["error"]["message"].startswith(field or "the body"), (field, shown, answer.content)

    in_memory(scenario)


@pytest.mark.parametrize("name", WITH_BODY)
def test_a_body_that_is_no_object_of_a_sensible_size_is_refused(name: str, in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        stage = Stage(server)
        await stage.begin()
        operation = OPERATION[name]
        path = stage.filled(operation.path)
        for content, status in (
            (b"{", 400),
            (b"null", 400),
            (b"[" * 100_000, 400),
            (b'"\xff"', 400),
            (b" " * (1 << 20) + b"{}", 413),
        ):
            answer = await server.rest(operation.method, path, content, version=VERSION)
            assert (answer.status, answer.body["error"]["code"]) == (status, "8523"), content[:20]

    in_memory(scenario)


@pytest.mark.parametrize("name", sorted(name for name, each in OPERATION.items() if CALL in each.path))
def test_a_call_that_is_not_there_and_one_that_is_over_are_not_found(name: str, in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        stage = Stage(server)
        await stage.begin()
        for call in (GONE, stage.ended, "x", "%00", "%C3%A9"):
            answer = await stage.ask(name, GOOD.get(name), stage.filled(OPERATION[name].path.replace(CALL, call)))
            assert (answer.status, answer.body["error"]["code"]) == (404, "8522"), (call, answer.content)

    in_memory(scenario)


@pytest.mark.parametrize("name", sorted(OPERATION.keys() - {"createIdentity"}))
def test_the_api_version_has_to_be_there_and_may_be_any(name: str, in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        stage = Stage(server)
        await stage.begin()
        missing = await stage.ask(name, GOOD.get(name), version=None)
        assert (missing.status, missing.body["error"]["code"]) == (400, "8523")
        assert "api-version" in missing.body["error"]["message"]
        answer = await stage.ask(name, GOOD.get(name), version="2099-01-01-preview")
        assert "api-version" not in answer.content.decode()
        assert_documented(name, answer)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ many at a time

Request = tuple[str, Any, str, str]  # operation, body, call connection id, api-version


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request as schemathesis makes it, or the good one with some of its fields; on this call or another one, about
    who is in the call or a caller of somebody else's.
    """
    case = draw(draw(st.sampled_from(STRATEGIES)))
    name = case.operation.definition.raw["operationId"]
    body = b"" if case.body is NOT_SET else case.body
    if name in GOOD and isinstance(body, dict) and draw(st.booleans()):
        taken = draw(st.sets(st.sampled_from(sorted(body)), max_size=2)) if body else ()
        body = {**GOOD[name], **{key: body[key] for key in taken}}
        if draw(st.booleans()):
            body = json.loads(json.dumps(body).replace("<caller>", "<stranger>"))
    call = draw(st.sampled_from(["", "", "", GONE, str(case.path_parameters.get("callConnectionId", "x"))]))
    version = draw(st.sampled_from([VERSION, VERSION, "", str(case.query.get("api-version", "x"))]))
    return name, body, call, version


def strategies() -> Iterator[st.SearchStrategy[Any]]:
    for found in schemathesis.openapi.from_dict(DESCRIBED).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        if "requestBody" in operation.definition.raw:
            yield operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


STRATEGIES = [*strategies()]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(asked=st.lists(requests(), min_size=1, max_size=6))
def test_no_sequence_of_requests_makes_the_server_fail(asked: list[Request], in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        stage = Stage(server)
        await stage.begin()
        for name, body, call, version in asked:
            path = OPERATION[name].path
            path = stage.filled(path.replace(CALL, quote(call, safe="")) if call else path)
            content = body if isinstance(body, bytes) else stage.filled(json.dumps(body)).encode()
            target = f"{path}?{urlencode({'api-version': version})}"
            assert_documented(name, await server.rest(OPERATION[name].method, target, content, version=None))
            await server.settle()

    in_memory(scenario)
