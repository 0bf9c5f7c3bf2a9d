"""The HTTP side of an app: answers every call with a media stream, and keeps what it is told of each.

It is part of a run's own process, or has one for itself, so that its cost is nobody else's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from itertools import groupby
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from offhook.bench.frames import HOST
from offhook.wire import auth

_ANSWER = "/calling/callConnections:answer?api-version=2025-06-15"


class Job(msgspec.Struct, frozen=True):
    """`stream`: the WebSocket of the audio. `server`: URL of the server whose calls are answered, with its `key`."""

    stream: str
    server: str
    key: str


class Ready(msgspec.Struct, frozen=True):
    """Where incoming calls are to be told of."""

    incoming: str


class CallApp:
    """Listens on loopback while it is entered. `stream`: the WebSocket of the audio. `serve` before calls come in."""

    def __init__(self, stream: str, key: str) -> None:
        self._stream = stream
        self._key = key
        self._server = ""
        self._changed = asyncio.Condition()
        self.connections: list[str] = []  # ids, of calls that were answered
        self.streaming: set[str] = set()  # those that stream
        self.ends: dict[str, list[float]] = {}  # when (monotonic) each was told of as ended
        self._told: dict[str, list[tuple[str, str]]] = {}  # (id, kind) of the events of each, as they came
        self.incoming = ""  # where incoming calls are to be told of

    async def __aenter__(self) -> CallApp:
        routes = web.Application()
        routes.add_routes([web.post("/incoming", self._on_incoming), web.post("/callback", self._on_event)])
        self._runner = web.AppRunner(routes, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self._url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        self.incoming = f"{self._url}/incoming"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def serve(self, server: str) -> None:
        """Answer the calls of the server at this URL."""
        self._server = server

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until what was told makes `condition` true. Raise TimeoutError."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def doubled(self) -> int:
        """Return how many calls were told of as ended more than once."""
        return sum(len(at) > 1 for at in self.ends.values())

    def disordered(self, kinds: Sequence[str]) -> int:
        """Return of how many calls other events were told than these in this order. One that comes again at once, under
        the same id, counts as one: its first delivery may not have been known of."""
        in_order = ([kind for (_, kind), _ in groupby(told)] for told in self._told.values())
        return sum(each != list(kinds) for each in in_order)

    async def _on_incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            return web.json_response({"validationResponse": event["data"]["validationCode"]})
        options = {
            "transportType": "websocket",
            "transportUrl": self._stream,
            "contentType": "audio",
            "audioChannelType": "mixed",
            "startMediaStreaming": True,
            "enableBidirectional": True,
            "audioFormat": "pcm16KMono",
        }
        body = {
            "incomingCallContext": event["data"]["incomingCallContext"],
            "callbackUri": f"{self._url}/callback",
            "mediaStreamingOptions": options,
        }
        self.connections.append((await self._post(_ANSWER, body))["callConnectionId"])
        return web.Response()

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        content, url = msgspec.json.encode(body), URL(self._server)
        headers = auth.sign("POST", path, url.authority, content, self._key, formatdate(usegmt=True))
        headers["Content-Type"] = "application/json"
        async with self._session.post(self._server + path, data=content, headers=headers) as response:
            response.raise_for_status()
            return await response.json(content_type=None)

    async def _on_event(self, request: web.Request) -> web.Response:
        at = time.monotonic()
        for event in await request.json():
            connection = event["data"]["callConnectionId"]
            kind = event["type"].removeprefix("Microsoft.Communication.")
            self._told.setdefault(connection, []).append((event["id"], kind))
            match kind:
                case "MediaStreamingStarted":
                    self.streaming.add(connection)
                case "CallDisconnected":
                    self.ends.setdefault(connection, []).append(at)
        async with self._changed:
            self._changed.notify_all()
        return web.Response()


def play(job: Job) -> None:
    """Print `Ready` as one line of JSON, then answer calls until killed."""
    asyncio.run(_serve(job))


async def _serve(job: Job) -> None:
    async with CallApp(job.stream, job.key) as answering:
        answering.serve(job.server)
        print(msgspec.json.encode(Ready(answering.incoming)).decode(), flush=True)
        await asyncio.Event().wait()
