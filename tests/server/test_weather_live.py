"""Weather on a running server, on loopback: the same faults at the same frames, packets and events; never times."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from offhook.audio.pcm import tone
from offhook.legs.bad_line import BadLine
from offhook.media.weather import Fate, Weather, fate
from offhook.server.app import Server
from offhook.server.config import Settings
from offhook.server.supervisor import Supervisor
from offhook.testing.harness import TestCaller
from offhook.wire import auth, streaming

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(120)]

RATE = 16_000
BAD = Weather(
    seed=7,
    drop_at=60,
    stall_at=30,
    stall_s=0.3,
    skew_s=3600.0,
    late=0.3,
    doubled=0.3,
    failing=0.3,
    packet_loss=0.05,
    packet_burst=3,
    packet_jitter_ms=50.0,
    packet_reordered=0.1,
    packet_doubled=0.1,
)
KINDS = ("CallConnected", "ParticipantsUpdated", "StreamingStarted", "StreamingStopped", "CallDisconnected")


class App:
    """Answers what comes in; keeps of events id and kind, and of its sockets what they got and how they were closed."""

    def __init__(self) -> None:
        self.server: Server | Supervisor
        self.events: list[tuple[str, str]] = []
        self.sockets: list[list[bytes]] = []
        self.ends: dict[int, WSMsgType] = {}
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        routes = web.Application()
        routes.add_routes(
            [web.post("/incoming", self._incoming), web.post("/callback", self._event), web.get("/audio", self._audio)]
        )
        runner = web.AppRunner(routes, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as self._session:
            yield self
        await runner.cleanup()

    def delivered(self) -> Counter[str]:
        """How often events of each kind came."""
        return Counter(kind for _, kind in self.events)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(condition)

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            return web.json_response({"validationResponse": event["data"]["validationCode"]})
        options = {
            "transportType": "websocket",
            "audioChannelType": "mixed",
            "transportUrl": self.url.replace("http", "ws") + "/audio",
            "startMediaStreaming": True,
        }
        context, callback = event["data"]["incomingCallContext"], f"{self.url}/callback"
        body = {"incomingCallContext": context, "callbackUri": callback, "mediaStreamingOptions": options}
        host, path = f"127.0.0.1:{self.server.http}", "/calling/callConnections:answer?api-version=2025-06-15"
        content = json.dumps(body).encode()
        headers = auth.sign("POST", path, host, content, self.server.keys[0], formatdate(usegmt=True))
        async with self._session.post(f"http://{host}{path}", headers=headers, data=content) as response:
            assert response.status == 200
        return web.Response()

    async def _event(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        kind = event["type"].removeprefix("Microsoft.Communication.").removeprefix("Media")
        async with self._changed:
            self.events.append((event["id"], kind))
            self._changed.notify_all()
        return web.Response()

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        messages: list[bytes] = []
        number = len(self.sockets)
        self.sockets.append(messages)
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        while (message := await opened.receive()).type is WSMsgType.TEXT:
            messages.append(message.data.encode())
        async with self._changed:
            self.ends[number] = message.type  # Its close_code would be 1000 or 1006 by chance when no close frame came.
            self._changed.notify_all()
        return opened


def expected(timeline: Counter[str]) -> Counter[str]:
    """How often events of each kind come in this weather, when so many of each have happened."""
    wire = {kind: f"Media{kind}" if kind.startswith("Streaming") else kind for kind in KINDS}
    return Counter(
        {
            kind: sum(len((fate(BAD, wire[kind], number) or Fate()).late_s) for number in range(1, timeline[kind] + 1))
            for kind in KINDS
        }
    )


def hold(url: str, key: str) -> list[dict[str, Any]]:
    """Hold one call; return its timeline, once all is in it. A test's plain functions, in a thread of their own."""
    with TestCaller() as caller:
        call = caller.call(url, key=key, weather=BAD)
        call.say(tone(440, RATE, 3.0))
        call.wait(1)
        call.hang_up()
        while not {"CallDisconnected", "bad line"} <= {event.what for event in call.events}:
            time.sleep(0.05)
        return [{"what": event.what, **event.details} for event in call.events]


async def lived(app: App) -> list[dict[str, Any]]:
    """Hold one call and check what came of it; return all that the weather did, but for times and packets."""
    app.events, app.sockets, app.ends = [], [], {}
    timeline = await asyncio.to_thread(hold, app.server.url, app.server.keys[0])

    first, *others = app.sockets
    assert len(first) == BAD.drop_at, "frames on the socket that was lost"
    assert len(others) == 1, "it is dialled again"
    await app.until(lambda: len(app.ends) == len(app.sockets))
    assert app.ends[0] is not WSMsgType.CLOSE, "as when a network fails"
    assert app.ends[1] is WSMsgType.CLOSE
    audio = streaming.parse_from_server(others[0][1])
    assert isinstance(audio, streaming.AudioData)
    ahead = datetime.fromisoformat(audio.timestamp) - datetime.now(UTC)
    assert 3600 - 60 < ahead.total_seconds() < 3600

    happened = Counter(entry["what"] for entry in timeline)
    await app.until(lambda: app.delivered() == expected(happened))  # Some are late.
    assert len({id for id, _ in app.events}) == sum(happened[kind] for kind in KINDS), "what comes twice is the same"

    (counts,) = [entry for entry in timeline if entry["what"] == "bad line"]
    line = BadLine(RATE, BAD)
    for _ in range(counts["packets"]):
        line.carry(None)
    for name in ("lost", "doubled", "reordered"):
        assert counts[name] == line.counts()[name] > 0, name
    done = [entry for entry in timeline if entry["what"] == "weather" or entry.get("cause") == "weather"]
    return sorted(done, key=str)


@pytest.mark.parametrize(
    "workers",
    [
        0,
        pytest.param(
            2, marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has the media in one process")
        ),
    ],
)
def test_the_same_faults_twice(workers: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with App().running() as app:
            settings = Settings(
                data_dir=tmp_path, http=0, https=None, workers=workers, incoming=[f"{app.url}/incoming"]
            )
            async with Supervisor(settings) if workers else Server(settings) as app.server:
                lives = [await lived(app), await lived(app)]
        assert lives[0] == lives[1]

    asyncio.run(main())
