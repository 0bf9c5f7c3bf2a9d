"""Requests as SDKs make them that cannot be run here: .NET, and Java after 1.0.4 (contract 1.2, 2.4; their source).

Both leave out what is not set, and write an identifier without its kind. They differ in which host they sign, in the
headers they add, and in what they write of a telephone number. Their frames are in tests/wire/test_streaming.py.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from offhook.server.api import Api
from offhook.wire import auth
from offhook.wire.operations import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, RestAnswer

GOLDEN = json.loads((Path(__file__).parent / "golden-requests.json").read_text("utf-8"))
REQUESTS = {each["operation"]: each for each in GOLDEN["requests"]}
BY_NAME = {operation.name: operation for operation in OPERATIONS}
VERSION = "2025-06-15"
CALLER, PHONE = "4:+15550100", "4:+15550177"
GIVEN = {"callback": "https://app.example/callback", "audio": "wss://app.example/audio"}
# The server, as each finds it: Java drops the port from the host that it signs, .NET keeps it.
HOSTS = {".NET": ("server.example:7443", "server.example:7443"), "Java": ("server.example", "server.example:7443")}
ADDED = {
    ".NET": {"x-ms-client-request-id": str(uuid.uuid4()), "x-ms-return-client-request-id": "true"},
    "Java": {"x-ms-client-request-id": str(uuid.uuid4()), "x-ms-hmac-string-to-sign-base64": "R0VU"},
}


class App:
    """An app on one of the SDKs: `do` an operation with its golden body."""

    def __init__(self, server: MemoryServer, sdk: str) -> None:
        self.server = server
        self.sdk = sdk
        self.names: dict[str, Any] = {
            **GIVEN,
            "caller": self._identifier(CALLER),
            "phone": self._identifier(PHONE),
            "participantRawId": quote(CALLER, safe=""),
        }

    def _identifier(self, raw_id: str) -> Any:
        filled = {"id": raw_id, "number": raw_id.removeprefix("4:")}
        return _fill(GOLDEN["identifiers"][self.sdk]["phone"], filled)

    async def do(self, name: str) -> RestAnswer:
        """Do what has to be done first, then the operation; keep what its answer names."""
        for before in REQUESTS[name].get("before", ()):
            await self.do(before)
        operation = BY_NAME[name]
        path = operation.path.replace("{", "{0[").replace("}", "]}").format(self.names)
        body = _fill(REQUESTS[name].get("body"), self.names)
        answer = await self._send(operation.method, path, b"" if body is None else json.dumps(body).encode())
        assert answer.status == operation.success, answer.content
        await self.server.settle()
        self.names |= answer.body or {}
        return answer

    async def _send(self, method: str, path: str, content: bytes) -> RestAnswer:
        signed_host, host = HOSTS[self.sdk]
        target, date = f"{path}?api-version={VERSION}", formatdate(self.server.wall(), usegmt=True)
        headers = auth.sign(method, target, signed_host, content, self.server.KEY, date)
        once = {"Repeatability-Request-ID": str(uuid.uuid4()), "Repeatability-First-Sent": date}
        more = {"Host": host, "Date": date, "Accept": "application/json", "Content-Type": "application/json"}
        return await self.server.send(method, target, {**headers, **more, **once, **ADDED[self.sdk]}, content)


def _fill(given: Any, names: Mapping[str, Any]) -> Any:
    """`given` with each `$name` in it replaced."""
    if isinstance(given, dict):
        return {key: _fill(value, names) for key, value in given.items()}
    if isinstance(given, list):
        return [_fill(each, names) for each in given]
    return names[given[1:]] if isinstance(given, str) and given.startswith("$") else given


@pytest.mark.parametrize("sdk", HOSTS)
@pytest.mark.parametrize("name", REQUESTS)
def test_the_request_is_served(name: str, sdk: str, in_memory: InMemory) -> None:
    if name not in Api.implemented:
        pytest.skip(f"{name} is not implemented")

    async def scenario(server: MemoryServer) -> RestAnswer:
        app = App(server, sdk)
        phone, caller = await server.phone(), await server.call()
        app.names["context"] = server.context
        if name not in ("answerCall", "redirectCall", "rejectCall", "createCall"):
            await app.do("answerCall")
        if name == "moveParticipants":
            app.names["secondCall"] = await server.create(PHONE)
            await server.settle()
            phone.tell("answer")
            await server.settle()
        answer = await app.do(name)
        for party in (phone, caller):
            party.close()
        await server.settle(200)  # until nothing of the call can be left
        return answer

    answer = in_memory(scenario)
    assert answer.headers["x-ms-client-request-id"] == ADDED[sdk]["x-ms-client-request-id"]
    for identifier in _identifiers(answer.body):
        assert identifier["rawId"]  # .NET throws without


def _identifiers(body: Any) -> list[dict[str, Any]]:
    """Every identifier in an answer."""
    if isinstance(body, list):
        return [found for each in body for found in _identifiers(each)]
    if not isinstance(body, dict):
        return []
    mine = [body] if {"communicationUser", "phoneNumber"} & body.keys() else []
    return mine + [found for value in body.values() for found in _identifiers(value)]


def test_every_operation_that_is_done_has_a_request() -> None:
    assert Api.implemented <= REQUESTS.keys()


def test_what_java_signed_is_no_proof_of_anything(in_memory: InMemory) -> None:
    """It sends the string that it signed: a wrong key with the right string is refused."""

    async def scenario(server: MemoryServer) -> RestAnswer:
        target, date = f"/calling/callConnections/x?api-version={VERSION}", formatdate(server.wall(), usegmt=True)
        headers = auth.sign("GET", target, "server.example", b"", base64.b64encode(b"wrong").decode(), date)
        right = f"GET\n{target}\n{date};server.example;{headers['x-ms-content-sha256']}"
        told = {"Host": "server.example", "x-ms-hmac-string-to-sign-base64": base64.b64encode(right.encode()).decode()}
        return await server.send("GET", target, {**headers, **told}, b"")

    assert in_memory(scenario).status == 401
