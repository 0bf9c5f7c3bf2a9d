"""The description that is published says what the server does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette

from offhook.server import openapi
from offhook.server.api import Api
from offhook.wire.operations import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

EXTRACT = Path(__file__).parents[1] / "contract/api-extracts/callautomation-2026-03-12.sdk-extract.json"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return openapi.describe(Api.implemented)


def test_it_has_every_operation_that_is_there_and_no_other(described: dict[str, Any]) -> None:
    found = {each["operationId"] for path in described["paths"].values() for each in path.values()}
    assert found == {*Api.implemented, "createIdentity"}


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    text = json.dumps(described)
    names = [part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]]
    assert set(names) == schemas.keys()


def test_bodies_are_those_that_the_sdks_send() -> None:
    """Every property of a request is one of the SDK's, of the same name, required only where the SDK requires it."""
    models = json.loads(EXTRACT.read_text())["pythonModels"]
    described = openapi.describe(Api.implemented)["components"]["schemas"]
    for name, schema in described.items():
        if name in models and name.endswith("Request"):
            known = models[name]
            assert schema["properties"].keys() <= known.keys(), name
            must = {field for field, told in known.items() if told["required"]}
            assert set(schema.get("required", [])) <= must, name


def test_every_operation_that_takes_a_body_says_which(described: dict[str, Any]) -> None:
    empty = {"terminate", "cancelAllMediaOperations", "pauseRecording", "resumeRecording"}
    for operation in OPERATIONS:
        if operation.name in Api.implemented and operation.method == "POST" and operation.name not in empty:
            assert "requestBody" in described["paths"][operation.path]["post"], operation.name


def test_every_table_is_about_operations() -> None:
    names = {operation.name for operation in OPERATIONS} | {"createIdentity"}
    assert openapi.REQUESTS.keys() <= names
    assert openapi.ANSWERS.keys() <= names


def test_words_of_any_casing_are_listed(described: dict[str, Any]) -> None:
    options = described["components"]["schemas"]["MediaStreamingOptions"]["properties"]
    assert options["audioChannelType"] == {"type": "string", "enum": ["mixed", "unmixed"]}
    assert "(?" not in json.dumps(described)


def test_it_is_served_without_a_key(in_memory: InMemory, described: dict[str, Any]) -> None:
    async def scenario(server: MemoryServer) -> None:
        server.asgi = Starlette(routes=[openapi.route(Api.implemented)])
        answer = await server.send("GET", openapi.PATH, {}, b"")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.body == described
        await asyncio.sleep(0)

    in_memory(scenario)
