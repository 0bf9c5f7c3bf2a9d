"""`kill -9` of the control process of a running server: counts of what is lost (nothing), on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from offhook.server.config import Settings
from offhook.server.supervisor import Supervisor
from offhook.testing.caller import Caller
from offhook.wire import auth, streaming

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has everything in one process"),
]

RATE = 16_000
FRAMES = 300
CALLS = 4
PATIENT, NOBODY = "+15550188", "+15550177"  # the app answers the one when the test says so, and the other never
PHONE = "+15550166"


def numbered(frames: int) -> bytes:
    """PCM whose n-th frame of 20 ms has the value n in all its samples, from 1 on."""
    return np.repeat(np.arange(1, frames + 1), RATE // 50).astype("<i2").tobytes()


class App:
    """Answers calls, and keeps what it is told and hears; `down`: its callback fails."""

    speaks = False  # whether its socket is for both directions

    def __init__(self) -> None:
        self.server: Supervisor
        self.down = False
        self.offers: dict[str, str] = {}  # incomingCallContext by the number that was called
        self.told: dict[str, list[tuple[str, str]]] = {}  # (id, kind) of events, by callConnectionId
        self.heard: dict[str, list[int]] = {}  # numbers of the frames, by callConnectionId
        self.sockets = 0

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
        async with aiohttp.ClientSession() as self.session:
            yield self
        await runner.cleanup()

    async def rest(self, method: str, path: str, body: Any = None, version: str = "2025-06-15") -> Any:
        """Make a signed request; return the JSON of the answer, which must be a success."""
        host = f"127.0.0.1:{self.server.http}"
        content = b"" if body is None else json.dumps(body).encode()
        path = f"{path}?api-version={version}"
        headers = auth.sign(method, path, host, content, self.server.keys[0], formatdate(usegmt=True))
        async with self.session.request(method, f"http://{host}{path}", headers=headers, data=content) as response:
            text = await response.text()
            assert response.status < 300, text
            return json.loads(text) if text else None

    @property
    def _streaming(self) -> dict[str, Any]:
        return {
            "transportType": "websocket",
            "audioChannelType": "mixed",
            "transportUrl": self.url.replace("http", "ws") + "/audio",
            "startMediaStreaming": True,
            "enableBidirectional": self.speaks,
        }

    async def answer(self, context: str) -> None:
        body = {"incomingCallContext": context, "callbackUri": f"{self.url}/callback"}
        await self.rest("POST", "/calling/callConnections:answer", {**body, "mediaStreamingOptions": self._streaming})

    async def create(self, number: str) -> None:
        body = {"targets": [{"rawId": f"4:{number}"}], "callbackUri": f"{self.url}/callback"}
        await self.rest("POST", "/calling/callConnections", {**body, "mediaStreamingOptions": self._streaming})

    def kinds(self, connection: str) -> list[str]:
        """What was told, in order; told twice, but only at once and with the same id, counts once."""
        once = [next(same) for _, same in groupby(self.told[connection], key=lambda event: event[0])]
        assert len({id for id, _ in once}) == len(once)
        return [kind for _, kind in once]

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        data = event["data"]
        if "validationCode" in data:
            return web.json_response({"validationResponse": data["validationCode"]})
        number = data["to"]["rawId"].removeprefix("4:")
        self.offers[number] = data["incomingCallContext"]
        if number not in (PATIENT, NOBODY):
            await self.answer(data["incomingCallContext"])
        return web.Response()

    async def _event(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        if self.down:
            return web.Response(status=503)
        kind = event["type"].removeprefix("Microsoft.Communication.")
        self.told.setdefault(event["data"]["callConnectionId"], []).append((event["id"], kind))
        return web.Response()

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        self.sockets += 1
        heard = self.heard.setdefault(request.headers["x-ms-call-connection-id"], [])
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        async for message in opened:
            parsed = streaming.parse_from_server(message.data.encode())
            if isinstance(parsed, streaming.AudioData) and (number := int.from_bytes(parsed.pcm[:2], "little")):
                heard.append(number)
        return opened


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    for _ in range(round(seconds * 50)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


async def all_there(app: App) -> None:
    """Wait until control has both workers: it begins without one that comes a second after the other."""
    async with asyncio.timeout(60):
        while True:
            async with app.session.get(f"{app.server.url}/health") as response:
                if (await response.json())["status"] == "ok":
                    return
            await asyncio.sleep(0.02)


async def kill_control(app: App) -> None:
    """Kill the control process, and wait until the next one answers."""
    killed = app.server.control.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await until(lambda: app.server.control.pid not in (killed, None) and app.server.control.ready)
    await all_there(app)


def hold(data_dir: Path, scenario: Callable[[App, Caller], Any]) -> None:
    async def main() -> None:
        async with App().running() as app:
            settings = Settings(
                data_dir=data_dir, http=0, https=None, workers=2, incoming=[f"{app.url}/incoming"], ring_timeout_s=60
            )
            async with Supervisor(settings) as app.server, Caller(app.server.url, app.server.keys[0]) as caller:
                await all_there(app)
                await scenario(app, caller)

    asyncio.run(main())


def test_calls_outlive_the_control_process(tmp_path: Path) -> None:
    async def scenario(app: App, caller: Caller) -> None:
        parties = [await caller.call("+15550199", from_=f"+1555010000{n}", rate=RATE) for n in range(CALLS)]
        ringing = await caller.call(PATIENT, from_="+15550101", rate=RATE)
        phone = await caller.phone(PHONE, rate=RATE)
        await until(lambda: PATIENT in app.offers and [len(app.kinds(each)) for each in app.told] == [3] * CALLS)
        for party in parties:
            await party.say(numbered(FRAMES))
        connections = list(app.told)

        await asyncio.sleep(1)
        app.down = True
        await app.rest("POST", f"/calling/callConnections/{connections[0]}:stopMediaStreaming", {})
        await app.rest("POST", f"/calling/callConnections/{connections[0]}:startMediaStreaming", {})
        await asyncio.sleep(0.2)
        await kill_control(app)
        app.down = False

        for party in parties:
            await party.played(timeout=60)
        await until(lambda: all(app.heard[connection][-1:] == [FRAMES] for connection in connections[1:]))
        await asyncio.sleep(0.5)
        for connection in connections[1:]:
            assert app.heard[connection] == list(range(1, FRAMES + 1)), "no frame is lost, doubled or out of order"
        await app.answer(app.offers[PATIENT])
        assert await ringing.wait_for("connected", timeout=60) == "connected"
        created = await app.rest(
            "POST", "/calling/callConnections", {"targets": [{"rawId": f"4:{PHONE}"}], "callbackUri": app.url}
        )
        assert await phone.wait_for("ringing", timeout=60) == "ringing"
        assert created["callConnectionState"] == "connecting"

        for connection in connections:
            await app.rest("DELETE", f"/calling/callConnections/{connection}")
        await until(lambda: all(app.kinds(connection)[-1] == "CallDisconnected" for connection in connections))
        await until(lambda: app.sockets >= CALLS + 2)
        await asyncio.sleep(0.3)
        began = ["CallConnected", "ParticipantsUpdated", "MediaStreamingStarted"]
        ended = ["MediaStreamingStopped", "CallDisconnected"]
        assert app.kinds(connections[0]) == [*began, "MediaStreamingStopped", "MediaStreamingStarted", *ended]
        assert [app.kinds(connection) for connection in connections[1:]] == [[*began, *ended]] * (CALLS - 1)
        assert app.sockets == CALLS + 2, "one each, one started again, and that of the late answer"
        for party in parties:
            assert await party.wait_for("ended", timeout=60) == "ended"

    hold(tmp_path, scenario)
