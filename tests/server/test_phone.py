"""The routes of the browser phone: what the page is, who may ask, and what for."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from offhook.server.phone import BODY_LIMIT, MAX_CALLS, BrowserPhone, _read
from offhook.server.requests import ApiError
from offhook.testing.clock import run

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, Party, RestAnswer

RESOURCE = "11111111-2222-4333-8444-555555555555"
AUDIO_BASE = "ws://server.example"
HOST = "127.0.0.1:7443"
ORIGIN = f"https://{HOST}"
NUMBER = {"to": "+15550199"}


class Person:
    """Somebody with the page open."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        phone = BrowserPhone(server.control, RESOURCE, ["Phone.Example"])
        server.asgi = Starlette(routes=[*phone.routes(), *server.asgi.routes])
        self.token = ""

    async def open(self) -> RestAnswer:
        page = await self.get("/phone")
        (self.token,) = re.findall(r'name="offhook-token" content="([A-Za-z0-9_-]{32})"', page.content.decode())
        return page

    async def get(self, path: str, host: str = HOST) -> RestAnswer:
        return await self.server.send("GET", path, {"Host": host}, b"")

    async def ask(self, method: str, path: str = "", body: Any = None, **headers: str | None) -> RestAnswer:
        """As the page does it. A header given as None is left out."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Host": HOST, "Origin": ORIGIN, "X_Offhook_Page": self.token, **headers}
        given = {name.replace("_", "-"): value for name, value in sent.items() if value is not None}
        return await self.server.send(method, f"/phone/calls{path}", given, content)

    async def call(self, **more: Any) -> tuple[str, Party]:
        placed = await self.ask("POST", "", {**NUMBER, **more})
        assert placed.status == 201, placed.content
        assert placed.body["audioUrl"].startswith(f"{AUDIO_BASE}/legs/")
        party = replace(placed, content=json.dumps({**placed.body, "rawId": "4:+15550100"}).encode())
        return placed.body["id"], await self.server._attach(party)


def test_the_page_is_served_with_its_files_and_a_token(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        page = await person.open()
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-store"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert f"connect-src 'self' {AUDIO_BASE};" in policy
        assert "frame-ancestors 'none'" in policy
        assert b"{{" not in page.content
        assert b"http" not in page.content  # nothing from elsewhere
        linked = set(re.findall(r'(?:src|href)="([^"]+)"', page.content.decode()))
        assert linked == {"/phone/icon.svg", "/phone/style.css", "/phone/main.mjs"}
        for path in linked:
            assert (await person.get(path)).status == 200
        script = await person.get("/phone/main.mjs")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert script.headers["x-content-type-options"] == "nosniff"
        assert (await person.get("/phone/index.html")).status == 401  # not the page's: the REST API wants a signature
        after_a_restart = Person(server)
        await after_a_restart.open()
        assert after_a_restart.token != person.token

    in_memory(scenario)


def test_a_person_calls_an_app_and_sees_what_happens(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        id, caller = await person.call(rate=16_000)
        assert server.incoming[-1]["to"]["rawId"] == "4:+15550199"
        assert server.incoming[-1]["callerDisplayName"] == "Browser phone"
        await server.answer()
        assert caller.states == ["ringing", "connected"]
        under_way = (await person.ask("GET", f"/{id}", Origin=None)).body
        assert not under_way["over"]
        whats = [entry["what"] for entry in under_way["timeline"]]
        assert whats[:2] == ["IncomingCall", "CallConnected"]
        assert (await person.ask("DELETE", f"/{id}")).status == 204
        await server.settle()
        assert caller.states[-1] == "ended"
        ended = (await person.ask("GET", f"/{id}")).body
        assert ended["over"]
        assert ended["timeline"][-1]["what"] == "call over"
        assert (await person.ask("DELETE", f"/{id}")).status == 404

    in_memory(scenario)


def test_without_an_app_the_call_is_over_at_once(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        id, caller = await person.call()
        assert caller.reason == "unreachable"
        told = (await person.ask("GET", f"/{id}")).body
        assert "unreachable" in [entry["what"] for entry in told["timeline"]]

    in_memory(scenario, listening=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost:1", "LOCALHOST", "[::1]:80", "phone.example"])
def test_the_page_answers_by_the_servers_own_names(in_memory: InMemory, host: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        assert (await Person(server).get("/phone", host)).status == 200

    in_memory(scenario)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "", "[", "a@localhost:b@c"],
)
def test_a_name_that_was_rebound_to_this_machine_gets_nothing(in_memory: InMemory, host: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        for path in ("/phone", "/phone/main.mjs"):
            answer = await person.get(path, host)
            assert answer.status == 421
            assert person.token.encode() not in answer.content
        assert (await person.ask("POST", "", NUMBER, Host=host, Origin=f"https://{host}")).status == 421
        assert not server.control.registry.calls

    in_memory(scenario)


@pytest.mark.parametrize("origin", ["https://evil.example", f"http://{HOST}", "https://127.0.0.1:7444", "null", None])
def test_another_page_of_the_browser_can_place_no_call(in_memory: InMemory, origin: str | None) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        assert (await person.ask("POST", "", NUMBER, Origin=origin)).status == 403
        id, _ = await person.call()
        assert (await person.ask("DELETE", f"/{id}", Origin=origin)).status == 403
        assert (await person.ask("GET", f"/{id}", Origin=origin)).status == (200 if origin is None else 403)
        assert list(server.control.registry.calls) == [id]

    in_memory(scenario)


@pytest.mark.parametrize("token", ["", "wrong", "\u00e9", None])
def test_nothing_is_done_without_the_pages_token(in_memory: InMemory, token: str | None) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        for method, path in (("POST", ""), ("GET", "/x"), ("DELETE", "/x")):
            answer = await person.ask(method, path, NUMBER, X_Offhook_Page=token)
            assert answer.status == 403
            assert "reload" in answer.body["error"]["message"]
        assert not server.control.registry.calls

    in_memory(scenario)


def test_the_token_opens_no_other_route_and_no_other_call(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        headers = {"Host": HOST, "Origin": ORIGIN, "X-Offhook-Page": person.token}
        for path in ("/offhook/calls", "/calling/callConnections"):
            assert (await server.send("POST", path, headers, b"{}")).status == 401
        somebody = await server.call()
        assert (await person.ask("GET", f"/{somebody.call}")).status == 404
        assert (await person.ask("DELETE", f"/{somebody.call}")).status == 404
        assert list(server.control.registry.calls) == [somebody.call]

    in_memory(scenario)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"to": "not a number!"}, 400, "E.164"),
        ({**NUMBER, "rate": 11_025}, 400, "rate"),
        ({"rate": 8000}, 400, "to"),
        (b"not json", 400, ""),
        (b" " * (BODY_LIMIT + 1), 413, str(BODY_LIMIT)),
    ],
)
def test_a_bad_request_is_told_what_is_bad(in_memory: InMemory, body: Any, status: int, words: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        answer = await person.ask("POST", "", body)
        assert answer.status == status
        assert words in answer.body["error"]["message"]
        assert not server.control.registry.calls

    in_memory(scenario)


def test_pages_hold_so_many_calls_and_no_more(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        person = Person(server)
        await person.open()
        calls = [await person.call() for _ in range(MAX_CALLS)]
        assert (await person.ask("POST", "", NUMBER)).status == 503
        await person.ask("DELETE", f"/{calls[0][0]}")
        await server.settle()
        await person.call()

    in_memory(scenario, max_calls=MAX_CALLS + 10)


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    async def scenario() -> None:
        with pytest.raises(ApiError) as raised:
            await _read(Request({"type": "http"}, receive))
        assert raised.value.status == 408

    run(scenario())
