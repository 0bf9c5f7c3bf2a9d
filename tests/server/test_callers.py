"""The caller API, request by request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, RestAnswer

RESOURCE = "11111111-2222-4333-8444-555555555555"


def test_a_call_is_placed(in_memory: InMemory) -> None:
    body = {"to": "+15550199", "from": "somebody", "rate": 8000, "displayName": "x" * 300}

    async def scenario(server: MemoryServer) -> RestAnswer:
        placed = await server.rest("POST", "/offhook/calls", {**body, "customContext": {"sipHeaders": {"X-A": "b"}}})
        assert placed.status == 201
        assert set(placed.body) == {"id", "rawId", "audioUrl", "callId"}
        assert placed.body["audioUrl"].startswith("ws://server.example/legs/")
        assert placed.body["rawId"].startswith(f"8:acs:{RESOURCE}_")
        return placed

    first, second = in_memory(scenario), in_memory(scenario)
    assert first.body["rawId"] == second.body["rawId"], "a bare name is always the same user"
    assert first.body["audioUrl"] != second.body["audioUrl"]


def test_a_caller_has_a_number_and_a_rate_unless_it_says_otherwise(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        placed = await server.rest("POST", "/offhook/calls", {"to": "+15550199"})
        assert placed.body["rawId"] == "4:+15550100"

    in_memory(scenario)


def test_what_the_caller_brings_reaches_the_app(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call(displayName="x" * 300, customContext={"sipHeaders": {"X-A": "b"}})
        (offer,) = server.incoming
        assert offer["callerDisplayName"] == "x" * 256
        assert offer["customContext"] == {"sipHeaders": {"X-A": "b"}, "voipHeaders": {}}

    in_memory(scenario)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/offhook/calls", {}, "to is required"),
        ("/offhook/calls", {"to": "not an address!"}, "to: 'not an address!' is no address"),
        ("/offhook/calls", {"to": "+15550199", "from": "+0"}, "from: '+0' is no address"),
        ("/offhook/calls", {"to": "+15550199", "rate": 11025}, "rate: 11025 is none of 8000, 16000, 24000, 48000"),
        ("/offhook/calls", {"to": "+15550199", "rate": "fast"}, "rate: "),
        ("/offhook/calls", {"to": "+15550199", "customContext": {"sipHeaders": 5}}, "customContext"),
        ("/offhook/calls", b"{", "the body is not JSON"),
        ("/offhook/phones", {}, "id is required"),
        ("/offhook/phones", {"id": ""}, "id: '' is no address"),
        ("/offhook/phones", {"id": "somebody", "rate": -1}, "rate: -1 is none of"),
    ],
)
def test_a_field_that_is_missing_or_wrong(in_memory: InMemory, path: str, body: Any, message: str) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest("POST", path, body))
    assert (answer.status, answer.body["error"]["code"]) == (400, "8523")
    assert answer.body["error"]["message"].startswith(message)


def test_calls_are_listed_shown_and_hung_up(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        app = await server.answer()
        (listed,) = (await server.rest("GET", "/offhook/calls")).body["calls"]
        assert listed["callId"] == caller.call
        assert listed["legs"] == [{"rawId": "4:+15550100", "state": "connected"}]
        assert [one["callConnectionId"] for one in listed["connections"]] == [app]
        assert not listed["over"]
        hung_up = await server.rest("DELETE", f"/offhook/calls/{caller.call}")
        assert (hung_up.status, hung_up.content) == (204, b"")
        shown = (await server.rest("GET", f"/offhook/calls/{caller.call}")).body
        assert shown["over"]
        assert [line["what"] for line in shown["timeline"]][-1] == "call over"
        assert (await server.rest("DELETE", f"/offhook/calls/{caller.call}")).status == 404

    in_memory(scenario)


def test_figures_of_a_stream_are_shown_when_it_has_ended(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        options = {"transportType": "websocket", "audioChannelType": "mixed", "transportUrl": "wss://app.example/audio"}
        app = await server.answer(mediaStreamingOptions={**options, "startMediaStreaming": True})
        await server.settle(1)
        await server.hang_up(app)
        shown = (await server.rest("GET", f"/offhook/calls/{caller.call}")).body
        (figures,) = shown["streams"].values()
        assert figures["sent"] == len(server.audio.audio) > 50
        assert figures["dropped"] == 0

    in_memory(scenario)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_call(in_memory: InMemory, method: str) -> None:
    answer: RestAnswer = in_memory(lambda server: server.rest(method, "/offhook/calls/unknown"))
    assert (answer.status, answer.body["error"]["code"]) == (404, "8522")
    assert answer.body["error"]["target"] == "/offhook/calls/unknown"


def test_phones_are_listed(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone("+15550177")
        (listed,) = (await server.rest("GET", "/offhook/phones")).body["phones"]
        assert (listed["rawId"], listed["waiting"]) == ("4:+15550177", True)
        await server.create("4:+15550177")
        await server.settle()
        (listed,) = (await server.rest("GET", "/offhook/phones")).body["phones"]
        assert not listed["waiting"]
        phone.drop()
        await server.settle()
        assert (await server.rest("GET", "/offhook/phones")).body == {"phones": []}

    in_memory(scenario)
