"""The client of the caller API by itself, with a server that is none."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from aiohttp import web

from offhook.testing.caller import Caller

MANY = 101  # one more than connections that aiohttp opens unless told otherwise


@pytest.mark.sockets
def test_however_many_parties_there_are_more_can_be_asked_for() -> None:
    async def place(request: web.Request) -> web.Response:
        url = f"ws://{request.host}/audio"
        return web.json_response({"id": "leg", "rawId": "4:+15550100", "callId": "call", "audioUrl": url})

    async def audio(request: web.Request) -> web.WebSocketResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        await opened.send_str(msgspec.json.encode({"kind": "connected"}).decode())
        async for _ in opened:
            pass
        return opened

    async def main() -> None:
        routes = web.Application()
        routes.add_routes([web.post("/offhook/calls", place), web.get("/audio", audio)])
        runner = web.AppRunner(routes, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with asyncio.timeout(20), Caller(url, "a2V5") as caller:
            parties = [await caller.call("+15550199") for _ in range(MANY)]
            assert [await party.wait_for("connected") for party in parties] == ["connected"] * MANY
        await runner.cleanup()

    asyncio.run(main())
