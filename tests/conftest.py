"""A whole server in memory, on virtual time: REST by ASGI, webhooks and media sockets without a network.

Tests get it by the fixture `in_memory`, which also looks after every test whether anything was left behind.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, settings
from starlette.applications import Starlette

from offhook.media.egress import AddressPolicy
from offhook.media.link import Link
from offhook.media.memory_link import memory_pair
from offhook.server.api import Api
from offhook.server.callers import Callers
from offhook.server.control import Control
from offhook.server.delivery import Deliverer, Reply
from offhook.server.dialplan import Inbound
from offhook.server.eventgrid import Endpoints
from offhook.server.placement import Worker
from offhook.server.webhooks import Webhooks
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia, MemoryParty
from offhook.testing.tone_studio import ToneStudio
from offhook.wire import auth, events
from offhook.wire.auth import Verifier
from offhook.wire.ids import IdMint

# No judgement by the clock: the machine may be busy with something else.
settings.register_profile("offhook", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("offhook")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test that runs in real time a second try, as the machine may hold it up for any time.

    The summary has each such test with what it failed of, as one that may be wrong itself; the run fails if more than
    two need it. A test on virtual time gets no second try: the same must come of it every time.
    """
    for item in items:
        if item.get_closest_marker("sockets") or item.get_closest_marker("sdk"):
            item.add_marker(pytest.mark.flaky(reruns=1))


T = TypeVar("T")

RESOURCE = "11111111-2222-4333-8444-555555555555"
HOST = "server.example"
WALL = 1_800_000_000.0  # Unix time at loop time 0
VERSION = "2025-06-15"
CALLBACK = "https://app.example/callback?code=secret"
INCOMING = "https://app.example/incoming"
AUDIO = "wss://app.example/audio"


@dataclass(frozen=True)
class RestAnswer:
    status: int
    headers: dict[str, str]  # names in lower case
    content: bytes

    @property
    def body(self) -> Any:
        """The JSON in the answer; None when it has no content."""
        return json.loads(self.content) if self.content else None


@dataclass(frozen=True)
class Posted:
    """One event that an app was sent."""

    at: float
    url: str
    event: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        kind: str = self.event.get("type") or self.event["eventType"]
        return kind.removeprefix("Microsoft.Communication.")

    @property
    def data(self) -> Any:
        return self.event["data"]


class Party(MemoryParty):
    """A simulated party whose socket, like a real one, is gone a moment after it was closed."""

    def __init__(self, server: MemoryServer, placed: dict[str, Any]) -> None:
        super().__init__()
        self.call: str = placed.get("callId", "")
        self.raw_id: str = placed["rawId"]
        assert self.open(server.media.legs, placed["audioUrl"].rpartition("/")[2])

    @property
    def states(self) -> list[str]:
        return [told.kind for told in self.told]

    @property
    def reason(self) -> str:
        """Why its last call ended."""
        return next(told.reason for told in reversed(self.told) if told.kind == "ended")

    def close(self) -> None:
        if not self.closed:
            super().close()
            asyncio.get_running_loop().call_soon(self.drop)


class Killed(BaseException):
    """Ends what a control process was doing when it was killed."""


class ControlEnd:
    """Control's end of the link, at which it can be killed: before and after each message, either way."""

    def __init__(self, end: Link, point: Callable[[], None]) -> None:
        self._end = end
        self._point = point
        self._closed = False

    def send(self, message: Any) -> None:
        if not self._closed:
            self._point()
            self._end.send(message)
            self._point()

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        def received(message: Any) -> None:
            if not self._closed:
                self._point()
                receive(message)

        self._end.on_receive(received)

    def on_lost(self, lost: Callable[[], None]) -> None:
        self._end.on_lost(lost)

    def close(self) -> None:
        self._closed = True
        self._end.close()


class MemoryServer:
    """Make it on a running virtual-time loop. `listening`: an app waits for IncomingCall; `inbound`: those who do.

    `kill_at`: its control process is killed at those of the points at which it tells somebody something, or is told;
    the next one takes over after `AWAY_S`.
    """

    AWAY_S = 0.5
    Killed = Killed

    KEY = base64.b64encode(b"the key that requests are signed with, of 64 bytes or thereabouts").decode()
    SECOND_KEY = base64.b64encode(b"the key that is to take the place of the first, one of these days").decode()

    def __init__(
        self,
        *,
        listening: bool = True,
        private: bool = True,
        max_calls: int = 10,
        ring_timeout_s: float = 60,
        kill_at: Collection[int] = (),
        inbound: Inbound | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._kill_at = kill_at
        self.points = 0
        self.posted: list[Posted] = []
        self.hung: set[str] = set()  # URLs of endpoints that take a request and never answer
        self.media = MemoryMedia(WALL)
        self.audio = self.media.apps[AUDIO] = MemoryApp()  # what answers at AUDIO
        self.studio = ToneStudio()
        self._settings = (private, max_calls, ring_timeout_s)
        self._inbound = inbound or {("*", ""): (INCOMING,) if listening else ()}
        self.start_control(self.media.control)

    def start_control(self, end: Link) -> None:
        """What the control process is made of; `end` is its end of the link to the worker."""
        private, max_calls, ring_timeout_s = self._settings
        self.alive = True
        self._end = ControlEnd(end, self.point)
        self.deliverer = Deliverer(self._post, lambda: "token")
        urls = list(chain(*self._inbound.values()))
        self.endpoints = Endpoints(urls, self._post, f"https://{HOST}", self._validation)
        self.endpoints.start()
        ids = IdMint(node=1)
        worker = Worker(0, lambda epoch: ids, f"ws://{HOST}")
        self.webhooks = Webhooks(self.deliverer, self.endpoints, "/subscriptions/test", self.wall, self._inbound)
        self.control = Control(
            workers=[worker],
            notifier=self.webhooks,
            socket_token=lambda: "socket-token",
            wall=self.wall,
            studio=self.studio,
            ring_timeout_s=ring_timeout_s,
            max_calls=max_calls,
        )
        self.control.connect(worker, self._end)
        verifier, policy = Verifier([self.KEY, self.SECOND_KEY]), AddressPolicy(allow_private=private)
        callers = Callers(self.control, verifier, RESOURCE, self.wall)
        self.api = Api(self.control, verifier, ids, RESOURCE, policy, self.wall)
        self.asgi = Starlette(routes=[*callers.routes(), *self.api.routes()])

    def wall(self) -> float:
        return WALL + self._loop.time()

    # ------------------------------------------------------------------------------------------ dying

    def point(self) -> None:
        self.points += 1
        if self.points in self._kill_at:
            self.kill()
            raise Killed

    def kill(self) -> None:
        """Leave nothing of the control process but what it has sent, and start another one."""
        self.alive = False
        self._end.close()
        operations = self.control.exchange.operations
        for timer in [*self.control.registry.ring_timers.values(), *operations._timers.values()]:
            timer.cancel()
        self.studio = ToneStudio()
        tasks = [*self.deliverer._tasks, *self.endpoints._tasks, *operations._tasks.values()]
        for task in tasks:
            task.cancel()
        self._loop.call_later(self.AWAY_S, self._restart)

    def _restart(self) -> None:
        end, worker_end = memory_pair()
        self.media.keeping.connect(worker_end)
        self.start_control(end)

    # ------------------------------------------------------------------------------------------ REST

    async def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        version: str | None = VERSION,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> RestAnswer:
        """Make a signed request. `body`: JSON, or bytes as they are; `headers` are added to the signed ones."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        target = path if version is None else f"{path}?api-version={version}"
        signed = auth.sign(method, target, HOST, content, key or self.KEY, formatdate(self.wall(), usegmt=True))
        return await self.send(method, target, {"Host": HOST, **signed, **(headers or {})}, content)

    async def send(self, method: str, target: str, headers: Mapping[str, str], content: bytes | None) -> RestAnswer:
        """Make a request as it stands. `content` None: the body never arrives."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if content is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": content}

        async def take(message: Any) -> None:
            sent.append(message)

        await self.asgi(scope, receive, take)
        start, *parts = sent
        told = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
        return RestAnswer(start["status"], told, b"".join(part.get("body", b"") for part in parts))

    # ------------------------------------------------------------------------------------------ what people do

    async def call(self, to: str = "+15550199", from_: str = "+15550100", rate: int = 16_000, **more: Any) -> Party:
        """A simulated caller calls; return it as soon as it rings and apps have been told."""
        placed = await self.rest("POST", "/offhook/calls", {"to": to, "from": from_, "rate": rate, **more})
        assert placed.status == 201, placed.content
        return await self._attach(placed)

    async def phone(self, id: str = "+15550177", rate: int = 16_000) -> Party:
        """A simulated phone waits for calls."""
        placed = await self.rest("POST", "/offhook/phones", {"id": id, "rate": rate})
        assert placed.status == 201, placed.content
        return await self._attach(placed)

    async def _attach(self, placed: RestAnswer) -> Party:
        await self.settle()  # The worker has to learn of the leg first.
        party = Party(self, placed.body)
        await self.settle()
        return party

    async def create(self, *targets: str, **more: Any) -> str:
        """An app calls raw ids; return its callConnectionId."""
        identifiers = [{"rawId": target} for target in targets]
        body = {"targets": identifiers, "callbackUri": CALLBACK, **more}
        created = await self.rest("POST", "/calling/callConnections", body)
        assert created.status == 201, created.content
        return str(created.body["callConnectionId"])

    async def answer(self, **more: Any) -> str:
        """An app answers the newest IncomingCall; return its callConnectionId once the call stands."""
        body = {"incomingCallContext": self.context, "callbackUri": CALLBACK, **more}
        answered = await self.rest("POST", "/calling/callConnections:answer", body)
        assert answered.status == 200, answered.content
        await self.settle()
        return str(answered.body["callConnectionId"])

    async def hang_up(self, connection: str) -> None:
        assert (await self.rest("DELETE", f"/calling/callConnections/{connection}")).status == 204
        await self.settle()

    async def settle(self, seconds: float = 0.1) -> None:
        """Let a little time pass, so that whoever was told something has done it."""
        await asyncio.sleep(seconds)

    # ------------------------------------------------------------------------------------------ what apps are told

    @property
    def incoming(self) -> list[Any]:
        """The data of every IncomingCall."""
        return [posted.data for posted in self.posted if posted.kind == "IncomingCall"]

    @property
    def context(self) -> str:
        return str(self.incoming[-1]["incomingCallContext"])

    def events(self, connection: str) -> list[Posted]:
        return [posted for posted in self.posted if posted.data.get("callConnectionId") == connection]

    def kinds(self, connection: str) -> list[str]:
        return [posted.kind for posted in self.events(connection)]

    def event(self, connection: str, kind: str) -> Posted:
        """The newest event of that kind."""
        return [posted for posted in self.events(connection) if posted.kind == kind][-1]

    def result(self, connection: str, kind: str = "CallDisconnected") -> tuple[int, int]:
        """`code` and `subCode` of the newest event of that kind."""
        result = self.event(connection, kind).data["resultInformation"]
        return result["code"], result["subCode"]

    # ------------------------------------------------------------------------------------------ the network

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        (event,) = json.loads(body)
        if headers.get("aeg-event-type") == "SubscriptionValidation":
            answer = {"validationResponse": event["data"]["validationCode"]}
            return Reply(200, json.dumps(answer).encode())
        self.point()
        self.posted.append(Posted(self._loop.time(), url, event, headers))
        if url in self.hung:
            await asyncio.Event().wait()
        self.point()
        return Reply(200)

    @staticmethod
    def _validation(code: str, url: str) -> bytes:
        return events.subscription_validation(code, url, event_id=str(uuid.uuid4()), time=WALL, topic="")

    # ------------------------------------------------------------------------------------------ the end

    async def close(self) -> None:
        """End every call and check that nothing of them is left."""
        await self.control.close()
        await self.endpoints.close()
        await self.deliverer.close(0 if self.hung else 1)
        await self.settle()
        assert self.left_over() == {}
        await self.media.legs.close()
        await self.media.worker.close()

    def left_over(self) -> dict[str, Any]:
        """Everything that control and the media worker still hold of calls."""
        held: dict[str, Any] = {
            f"control.{name}": getattr(self.control.registry, name)
            for name in ("calls", "by_connection", "by_leg", "by_stream", "offers", "tokens", "ring_timers")
        }
        held["control.exchange.follow_ups"] = self.control.exchange.follow_ups
        for name in ("_records", "_tasks", "_clips", "_timers"):
            held[f"control.exchange.operations.{name}"] = getattr(self.control.exchange.operations, name)
        held["studio.kept"] = self.studio.kept
        worker = self.media.worker
        held["worker._streams"] = worker._streams
        if not self.hung:
            held["kept"] = self.media.keeping._kept.keys() - self.control.registry.phones.keys()
        held["the plane"] = [row for slot in worker.plane.slots for rows in slot.calls.values() for row in rows]
        return {name: value for name, value in held.items() if value}


InMemory = Callable[..., Any]


@pytest.fixture
def memory_server() -> type[MemoryServer]:
    return MemoryServer


@pytest.fixture
def in_memory() -> InMemory:
    """`in_memory(scenario, **settings)` runs `await scenario(MemoryServer(**settings))` on virtual time."""

    def hold(scenario: Callable[[MemoryServer], Awaitable[T]], **settings: Any) -> T:
        async def main() -> T:
            server = MemoryServer(**settings)
            await server.settle()
            result = await scenario(server)
            await server.close()
            return result

        return run(main())

    return hold
