"""The REST API as an OpenAPI 3.1 description, made of what serves it: the operations, and the DTOs of their bodies.

It says what an SDK needs of a request and an answer; what an operation does is told by docs/wire.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from offhook import __version__
from offhook.server.requests import json_response
from offhook.wire import rest
from offhook.wire.operations import OPERATIONS, Operation

PATH = "/openapi.json"

CREATE_IDENTITY = Operation("createIdentity", "POST", "/identities", 201)

# DTOs bear the names of the contract (2.5), so that a look at its table of operations (2.3) is enough here.
REQUESTS = {
    "createCall": "CreateCallRequest",
    "answerCall": "AnswerCallRequest",
    "redirectCall": "RedirectCallRequest",
    "rejectCall": "RejectCallRequest",
    "connect": "ConnectRequest",
    "transferToParticipant": "TransferToParticipantRequest",
    "addParticipant": "AddParticipantRequest",
    "removeParticipant": "RemoveParticipantRequest",
    "mute": "MuteParticipantsRequest",
    "cancelAddParticipant": "CancelAddParticipantRequest",
    "moveParticipants": "MoveParticipantsRequest",
    "play": "PlayRequest",
    "recognize": "RecognizeRequest",
    "startContinuousDtmfRecognition": "ContinuousDtmfRecognitionRequest",
    "stopContinuousDtmfRecognition": "ContinuousDtmfRecognitionRequest",
    "sendDtmfTones": "SendDtmfTonesRequest",
    "hold": "HoldRequest",
    "unhold": "UnholdRequest",
    "startMediaStreaming": "MediaStreamingRequest",
    "stopMediaStreaming": "MediaStreamingRequest",
    "createIdentity": "CreateIdentityRequest",
}
ANSWERS = {
    "createCall": "CallConnectionProperties",
    "answerCall": "CallConnectionProperties",
    "connect": "CallConnectionProperties",
    "getCall": "CallConnectionProperties",
    "listParticipants": "ParticipantList",
    "getParticipant": "CallParticipant",
    "transferToParticipant": "TransferCallResponse",
    "addParticipant": "AddParticipantResponse",
    "removeParticipant": "RemoveParticipantResponse",
    "cancelAddParticipant": "CancelAddParticipantResponse",
    "moveParticipants": "MoveParticipantsResponse",
    "mute": "ContextAnswer",
    "sendDtmfTones": "ContextAnswer",
    "createIdentity": "CreateIdentityResponse",
}
ERROR = "CommunicationErrorResponse"

_ANY_CASE = re.compile(r"\^\(\?i:([\w|]+)\)\\Z")


def describe(implemented: Collection[str]) -> dict[str, Any]:
    """Return the description of the operations of these names, and of `POST /identities`."""
    operations = [CREATE_IDENTITY, *(operation for operation in OPERATIONS if operation.name in implemented)]
    dtos = {dto.__name__: dto for dto in _subclasses(rest.Dto)}
    named = {table.get(operation.name) for table in (REQUESTS, ANSWERS) for operation in operations}
    wanted = sorted(dtos.keys() & {ERROR, *named})
    refs, components = msgspec.json.schema_components(
        [dtos[name] for name in wanted], ref_template="#/components/schemas/{name}"
    )
    schemas = dict(zip(wanted, refs, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        described = _operation(operation, dtos, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Offhook: Call Automation",
            "version": __version__,
            "description": "What Offhook serves of the Call Automation REST API of Azure Communication Services.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}, {"accessKey": []}],
        "paths": paths,
        "components": {"schemas": _in_their_spelling(components), "securitySchemes": _SECURITY},
    }


def route(implemented: Collection[str]) -> Route:
    """Return the route of `PATH`, which needs no key."""
    body = json.dumps(describe(implemented), ensure_ascii=False).encode()

    async def endpoint(request: Request) -> Response:
        return json_response(200, body)

    return Route(PATH, endpoint)


def _operation(operation: Operation, dtos: dict[str, type[rest.Dto]], schemas: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done, or begun: events tell how it ends."}
    if (name := ANSWERS.get(operation.name)) in schemas:
        answer["content"] = _json(schemas[name])
    described: dict[str, Any] = {
        "operationId": operation.name,
        "parameters": [*_parameters(operation)],
        "responses": {
            str(operation.success): answer,
            "default": {"description": "It is not done; docs/wire.md has the codes.", "content": _json(schemas[ERROR])},
        },
    }
    if (name := REQUESTS.get(operation.name)) in schemas:
        required = any(field.required for field in msgspec.structs.fields(dtos[name]))
        described["requestBody"] = {"required": required, "content": _json(schemas[name])}
    return described


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        yield _parameter(name, "path", True)
    if operation is not CREATE_IDENTITY:
        yield _parameter("api-version", "query", True)
    if operation.repeatable:
        yield _parameter("Repeatability-Request-ID", "header", False)
        yield _parameter("Repeatability-First-Sent", "header", False)


def _parameter(name: str, place: str, required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": {"type": "string", "minLength": 1}}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _in_their_spelling(schema: Any) -> Any:
    """Return the schema with words that are taken in any casing as an `enum` of their usual one.

    In JSON Schema a pattern has no such thing as a casing that does not matter.
    """
    if isinstance(schema, list):
        return [_in_their_spelling(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _in_their_spelling(value) for key, value in schema.items()}
    if isinstance(pattern := made.get("pattern"), str) and (words := _ANY_CASE.fullmatch(pattern)):
        del made["pattern"]
        made["enum"] = words[1].split("|")
    return made


def _subclasses(of: type[rest.Dto]) -> Iterator[type[rest.Dto]]:
    for each in of.__subclasses__():
        yield each
        yield from _subclasses(each)


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "See docs/identity.md."},
    "accessKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "HMAC-SHA256 by an access key; see docs/caller-api.md, Signing.",
    },
}
