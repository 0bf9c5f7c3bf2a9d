"""The client of the caller API by itself, with a server that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
from aiohttp import WSMessage, WSMsgType, web

from offhook.testing.caller import Caller, Party
from offhook.testing.clock import run

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
        async with asyncio.timeout(60), Caller(url, "a2V5") as caller:
            parties = [await caller.call("+15550199") for _ in range(MANY)]
            assert [await party.wait_for("connected") for party in parties] == ["connected"] * MANY
        await runner.cleanup()

    asyncio.run(main())


class ToldAtOnce:
    """A socket on which all of this has come before anybody looks."""

    closed = False

    def __init__(self, *told: dict[str, Any]) -> None:
        self._told = told

    async def __aiter__(self) -> AsyncIterator[WSMessage]:
        for each in self._told:
            yield WSMessage(WSMsgType.TEXT, msgspec.json.encode(each).decode(), None)


def party(*told: dict[str, Any]) -> Party:
    return Party("leg", "call", "4:+15550100", 24_000, cast(Any, ToldAtOnce(*told)))


def test_who_waits_for_a_state_sees_it_though_the_next_one_is_here_already() -> None:
    states = ["ringing", "connected", "ended", "waiting", "ringing"]

    async def main() -> None:
        phone = party(*({"kind": state} for state in states))
        assert [await phone.wait_for(state) for state in states] == states

    run(main())


def test_a_mark_tells_how_many_frames_did_not_come() -> None:
    async def main() -> None:
        caller = party({"kind": "connected"}, {"kind": "mark", "name": "m1", "frame": 3})
        await caller.wait_for("ended")
        assert caller.missed_frames == 3

    run(main())
